//! Makes honest clusters: what one to three starts of replicas and a handful of approvals leave, step by step as it would come about.

use countersign::approval::{
    Approval, ApprovalId, ControlRecord, Digest, Event, State, Transition,
};
use countersign::audit::control_record::{encode_control, encode_plain};
use countersign::audit::keys::key_added;
use countersign::audit::proto::{
    Anchor, Decision, Gap, LogRead, PolicyActivated, Pruned, ReplicaLost, ReplicaStarted,
    ReplicaStopped, record::What,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::cluster::{Cluster, End, Start, signer};
use crate::lives::random::dice::Dice;
use crate::lives::random::life::Life;
use crate::log::Log;

/// The cluster's name.
const CLUSTER: &str = "prod-eu";
/// How many records a decision log has, among others: around a bundle, and around two.
const SIZES: [usize; 14] = [0, 1, 3, 17, 60, 120, 254, 255, 256, 257, 300, 511, 512, 700];

/// An approval on its way.
struct Way {
    life: Life,
    approval: Approval,
    left: usize,
}

/// Makes a cluster, step by step, as it would have come about.
pub(crate) struct Maker {
    dice: Dice,
    pub(crate) cluster: Cluster,
    ways: Vec<Way>,
    now_us: i64,
    next_id: u64,
    /// The redemptions whose decisions no log has: a crash came between.
    silent_percent: usize,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let origin = format!("{CLUSTER}/control");
        let first = signer(&origin, &mut dice);
        let segment_bytes = *dice.pick(&[1_000, 9_000, 1 << 20]);
        let mut control = Log::new(&origin, format!("{}\n", first.verifier()), segment_bytes);
        let added = key_added(&first, None).unwrap();
        control
            .leaves
            .push(encode_control(1_799_999_000_000_000, What::KeyAdded(added)));
        let cluster = Cluster {
            control,
            keys: vec![(1, first)],
            starts: Vec::new(),
            copies: Vec::new(),
            heads: Vec::new(),
        };
        Self {
            dice,
            cluster,
            ways: Vec::new(),
            now_us: 1_799_999_000_000_000,
            next_id: seed << 20,
            silent_percent: 5,
        }
    }

    /// A whole cluster.
    pub(crate) fn cluster(seed: u64) -> Cluster {
        let mut maker = Self::new(seed);
        let starts = 1 + maker.dice.below(3);
        let replicas = 1 + maker.dice.below(starts);
        for number in 0..starts {
            for earlier in 0..number {
                // A replica that starts again records how it ended before.
                if earlier % replicas == number % replicas && maker.is_running(earlier) {
                    maker.end(earlier);
                }
            }
            maker.start(number % replicas);
            maker.live();
            // A replica starts again, or beside the others.
            if maker.dice.percent(60) {
                maker.end(number);
            }
        }
        for number in 0..starts {
            if maker.cluster.starts[number].end == End::Running && maker.dice.percent(60) {
                maker.end(number);
            }
        }
        maker.finish(replicas)
    }

    fn uuid(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(u128::from(self.next_id) << 32 | 0x0192_0000_0000_7000_8000_0000_0000_0000)
    }

    fn now(&mut self) -> i64 {
        self.now_us += i64::try_from(self.dice.below(1_000_000)).unwrap();
        self.now_us
    }

    /// Writes a record of the control log, and signs now and then.
    fn control(&mut self, what: What) {
        let at_us = self.now();
        let leaf = encode_control(at_us, what);
        self.control_leaf(leaf);
    }

    fn control_leaf(&mut self, leaf: Vec<u8>) {
        self.cluster.control.leaves.push(leaf);
        if self.dice.percent(6) {
            self.sign_control();
        }
    }

    fn sign_control(&mut self) {
        let size = self.cluster.control.size();
        if self.cluster.control.signed() == size {
            return;
        }
        let signer = self.cluster.signer(size);
        self.cluster.control.sign(&signer);
        if self.dice.percent(50) {
            let note = self.cluster.control.checkpoint(size, &signer);
            self.cluster.heads.push((size, note));
        }
    }

    fn start(&mut self, replica: usize) {
        let incarnation = self.uuid().to_string();
        let origin = format!("{CLUSTER}/decision/{incarnation}");
        let signer = signer(&origin, &mut self.dice);
        let segment_bytes = *self.dice.pick(&[1_000, 9_000, 1 << 20]);
        let log = Log::new(&origin, format!("{}\n", signer.verifier()), segment_bytes);
        self.control(What::ReplicaStarted(ReplicaStarted {
            incarnation: incarnation.clone(),
            log_key: signer.verifier().to_string(),
            program: "0.1.0".to_owned(),
            engine: "cedar 4.14.1".to_owned(),
            configuration: "[audit]\n".to_owned(),
        }));
        self.cluster.starts.push(Start {
            incarnation,
            replica,
            signer,
            log,
            end: End::Running,
            anchored: 0,
            decisions: 0,
            lost: 0,
            planned: *self.dice.pick(&SIZES),
        });
    }

    /// Lets things happen until the youngest replica has decided what it will decide.
    fn live(&mut self) {
        for _ in 0..self.dice.below(4) {
            self.open();
        }
        let number = self.cluster.starts.len() - 1;
        loop {
            match self.dice.weighted(&[90, 12, 1, 2, 1, 2]) {
                0 => {
                    for number in 0..self.cluster.starts.len() {
                        self.decide(number);
                    }
                }
                1 => self.advance(),
                2 => self.rotate(),
                3 => self.anchor(number),
                4 => self.gap(number),
                _ => self.note(),
            }
            if self.cluster.starts[number].log.leaves.len() >= self.cluster.starts[number].planned {
                break;
            }
        }
        while !self.ways.is_empty() && self.dice.percent(97) {
            self.advance();
        }
        if self.dice.percent(10) {
            for _ in 0..self.dice.below(400) {
                self.note();
            }
        }
    }

    fn is_running(&self, number: usize) -> bool {
        self.cluster.starts[number].end == End::Running
    }

    fn decide(&mut self, number: usize) {
        let count = 1 + self.dice.below(9);
        for _ in 0..count {
            let decision = Decision {
                decision_id: self.uuid().as_bytes().to_vec(),
                outcome: 1 + i32::try_from(self.dice.weighted(&[80, 15, 5])).unwrap(),
                policy_version: "0".repeat(64),
                caller: "gateway".to_owned(),
                action: "Deploy".to_owned(),
                is_check: self.dice.percent(5),
                ..Decision::default()
            };
            let decision = match decision.outcome {
                3 => Decision {
                    rules: vec!["r1".to_owned()],
                    ..decision
                },
                _ => decision,
            };
            self.decision(number, decision);
        }
    }

    /// Writes a decision, unless the replica ended.
    fn decision(&mut self, number: usize, decision: Decision) {
        if !self.is_running(number) {
            return;
        }
        let at_us = self.now();
        let start = &mut self.cluster.starts[number];
        start
            .log
            .leaves
            .push(encode_control(at_us, What::Decision(decision)));
        start.decisions += 1;
        if self.dice.percent(2) {
            self.sign_decisions(number);
        }
    }

    fn sign_decisions(&mut self, number: usize) {
        let start = &mut self.cluster.starts[number];
        if start.log.signed() < start.log.size() {
            start.log.sign(&start.signer.clone());
        }
    }

    fn gap(&mut self, number: usize) {
        if !self.is_running(number) || self.dice.percent(60) {
            return;
        }
        let at_us = self.now();
        let lost = 1 + u64::try_from(self.dice.below(50)).unwrap();
        let gap = Gap {
            since_us: at_us,
            until_us: at_us,
            allowed: lost,
            reason: "the disk is full".to_owned(),
            ..Gap::default()
        };
        let start = &mut self.cluster.starts[number];
        start.log.leaves.push(encode_control(at_us, What::Gap(gap)));
        start.lost += lost;
    }

    fn anchor(&mut self, number: usize) {
        if !self.is_running(number) {
            return;
        }
        let start = &mut self.cluster.starts[number];
        let size = start.log.size();
        start.anchored = size;
        let anchor = Anchor {
            incarnation: start.incarnation.clone(),
            size,
            root: start.log.root(size).as_bytes().to_vec(),
        };
        self.control(What::Anchor(anchor));
    }

    fn rotate(&mut self) {
        let old = self.cluster.signer(u64::MAX);
        let new = signer(old.verifier().name(), &mut self.dice);
        self.control(What::KeyAdded(key_added(&new, Some(&old)).unwrap()));
        let size = self.cluster.control.size();
        // The checkpoint that may follow the record is signed with the old key.
        self.cluster.keys.push((size + 1, new.clone()));
        let lines = &self.cluster.control.key_lines;
        self.cluster.control.key_lines = format!("{lines}{}\n", new.verifier());
    }

    fn note(&mut self) {
        let incarnation = self.cluster.starts[0].incarnation.clone();
        let what = if self.dice.percent(50) {
            What::LogRead(LogRead {
                filter: "outcome = DENY".to_owned(),
                records: 7,
                ..LogRead::default()
            })
        } else {
            What::PolicyActivated(PolicyActivated {
                incarnation,
                policy_version: "0".repeat(64),
                permits: 3,
                ..PolicyActivated::default()
            })
        };
        self.control(what);
    }

    fn open(&mut self) {
        let mut life = Life::new(Dice::new(self.uuid().as_u64_pair().0 ^ self.next_id));
        let id = self.uuid();
        life.first.id = ApprovalId::new(id.to_string());
        life.first.asked.digest = Digest::of("tamper", id.as_bytes());
        let opening = Transition::opening(life.first.clone());
        self.records(&opening.records);
        let left = 5 + self.dice.below(60);
        self.ways.push(Way {
            approval: life.first.clone(),
            life,
            left,
        });
    }

    fn records(&mut self, records: &[ControlRecord]) {
        for record in records {
            self.control_leaf(encode_plain(record));
        }
    }

    /// Lets something happen to one of the approvals.
    fn advance(&mut self) {
        if self.ways.is_empty() {
            return;
        }
        let place = self.dice.below(self.ways.len());
        let decision_id = self.uuid();
        let way = &mut self.ways[place];
        let (now, event) = way.life.next(&way.approval);
        let event = with_id(event, decision_id);
        let was_spent = matches!(way.approval.state, State::Redeemed { .. });
        let transition = way.approval.clone().apply(&event, whole_micros(now));
        way.approval = transition.approval.clone();
        way.left -= 1;
        if way.left == 0 {
            self.ways.swap_remove(place);
        }
        self.records(&transition.records);
        let is_spent = matches!(transition.approval.state, State::Redeemed { .. });
        let is_answer = matches!(event, Event::Redeem(_)) && transition.answer.is_ok();
        if is_spent && (is_answer || !was_spent) && !self.dice.percent(self.silent_percent) {
            self.grant(&transition.approval);
        }
    }

    /// Some replica answers that the grant was spent.
    fn grant(&mut self, approval: &Approval) {
        let State::Redeemed { redemption, .. } = &approval.state else {
            return;
        };
        let id: Uuid = redemption.decision_id.parse().unwrap();
        let number = self.dice.below(self.cluster.starts.len());
        let decision = Decision {
            decision_id: id.as_bytes().to_vec(),
            outcome: 1,
            rules: vec!["r1".to_owned()],
            approval_id: approval.id.as_str().to_owned(),
            is_granted: true,
            request_digest: approval.asked.digest.as_bytes().to_vec(),
            ..Decision::default()
        };
        self.decision(number, decision);
    }

    fn end(&mut self, number: usize) {
        let is_lost = self.dice.percent(40);
        if !is_lost || self.dice.percent(50) {
            self.sign_decisions(number);
        }
        let start = &mut self.cluster.starts[number];
        let size = start.log.size();
        let root = start.log.root(size).as_bytes().to_vec();
        let incarnation = start.incarnation.clone();
        start.anchored = size;
        start.end = if is_lost { End::Lost } else { End::Stopped };
        let (accepted, lost) = (start.decisions + start.lost, start.lost);
        self.control(if is_lost {
            What::ReplicaLost(ReplicaLost {
                incarnation,
                size,
                root,
                reserved: size + 900,
                reason: "it was killed".to_owned(),
            })
        } else {
            What::ReplicaStopped(ReplicaStopped {
                incarnation,
                size,
                root,
                accepted,
                lost,
            })
        });
        self.prune(number);
    }

    /// Removes old records of a log that ended.
    fn prune(&mut self, number: usize) {
        let start = &self.cluster.starts[number];
        if start.log.size() < 512 || !self.dice.percent(30) {
            return;
        }
        let below = 256 * u64::try_from(self.dice.below(3)).unwrap();
        let incarnation = start.incarnation.clone();
        self.cluster.starts[number].log.pruned = below;
        self.control(What::Pruned(Pruned {
            incarnation,
            below,
            by: "ops".to_owned(),
        }));
    }

    /// Leaves the last things unsigned or not, and gives each replica its copy of the control log.
    pub(crate) fn finish(mut self, replicas: usize) -> Cluster {
        if self.cluster.control.notes.is_empty() || self.dice.percent(70) {
            self.sign_control();
        }
        let size = self.cluster.control.size();
        if self.cluster.heads.is_empty() {
            let signed = self.cluster.control.signed();
            let note = self
                .cluster
                .control
                .checkpoint(signed, &self.cluster.signer(signed));
            self.cluster.heads.push((signed, note));
        }
        let whole = self.dice.below(replicas);
        // A copy of another replica may be behind, but is never without a checkpoint.
        let first = self.cluster.control.notes[0].0;
        for replica in 0..replicas {
            // The copy of a replica that runs goes on.
            let starts = &self.cluster.starts;
            let runs = starts
                .iter()
                .any(|start| start.replica == replica && start.end == End::Running);
            let behind = self.dice.below(20);
            let behind = if replica == whole || runs { 0 } else { behind };
            let behind = u64::try_from(behind).unwrap();
            self.cluster
                .copies
                .push(size.saturating_sub(behind).max(first));
        }
        for start in &mut self.cluster.starts {
            if start.end != End::Stopped && self.dice.percent(50) {
                start.log.torn = vec![1; self.dice.below(40)];
            }
        }
        self.cluster
    }
}

fn whole_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap()
}

/// Decisions have ids that are UUIDs.
pub(crate) fn with_id(event: Event, id: Uuid) -> Event {
    match event {
        Event::Redeem(mut attempt) => {
            attempt.decision_id = id.to_string();
            Event::Redeem(attempt)
        }
        Event::Join
        | Event::Vote(_)
        | Event::Cancel(_)
        | Event::Revoke(_)
        | Event::Supersede(..)
        | Event::Strand(_)
        | Event::Report { .. }
        | Event::Tick => event,
    }
}
