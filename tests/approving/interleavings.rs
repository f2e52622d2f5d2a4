//! Anything may happen in any order: what is allowed is always justified by what was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign::approval::{Approval, Choice, ControlRecord, Event, Happening, Status};
use countersign::model::Decision;
use countersign::usecase::ApprovalPart;
use countersign::usecase::approval_store::ApprovalFilter;
use proptest::prelude::*;

use crate::request::{Ask, deploy};
use crate::world::{MINUTE, World, by_caller, by_person};

const VOTERS: [&str; 9] = [
    "alice",
    "bob",
    "carol",
    "dora",
    "dora-admin",
    "olive",
    "olive-admin",
    "dirk",
    "eve",
];

/// One thing that somebody does. Which approval is meant: one of those opened so far.
#[derive(Clone, Debug)]
enum Act {
    Ask(u8),
    Vote(usize, bool, usize),
    Redeem(u8, usize, Option<u8>),
    Cancel(usize),
    Revoke(usize),
    Wait(u64),
    TurnBack(u64),
    Sweep,
    Strand,
    Edit(Edit),
}

/// A change of the policies. Each can be taken back by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edit {
    Forbid,
    NoGate,
    ThreePersons,
    AliceLeaves,
    BobIsAlice,
    CarolOwnsTheAgent,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let edit = prop::sample::select(vec![
        Edit::Forbid,
        Edit::NoGate,
        Edit::ThreePersons,
        Edit::AliceLeaves,
        Edit::BobIsAlice,
        Edit::CarolOwnsTheAgent,
    ]);
    let act = prop_oneof![
        3 => (0..2_u8).prop_map(Act::Ask),
        9 => (0..VOTERS.len(), prop::bool::weighted(0.93), 0..3_usize)
            .prop_map(|(who, yes, which)| Act::Vote(who, yes, which)),
        6 => (0..2_u8, 0..3_usize, prop::option::of(0..2_u8))
            .prop_map(|(version, which, key)| Act::Redeem(version, which, key)),
        1 => (0..3_usize).prop_map(Act::Cancel),
        1 => (0..3_usize).prop_map(Act::Revoke),
        2 => (0..12_u64).prop_map(Act::Wait),
        1 => (0..6_u64).prop_map(Act::TurnBack),
        1 => Just(Act::Sweep),
        1 => Just(Act::Strand),
        2 => edit.prop_map(Act::Edit),
    ];
    prop::collection::vec(act, 1..40)
}

struct Play {
    world: World,
    edits: BTreeSet<Edit>,
    opened: Vec<Approval>,
    /// For each approval that was redeemed: the key and the decision.
    spent: BTreeMap<String, (Option<String>, String)>,
}

fn ask(version: u8) -> Ask {
    deploy().version(&version.to_string())
}

impl Play {
    fn new() -> Self {
        Self {
            world: World::new(),
            edits: BTreeSet::new(),
            opened: Vec::new(),
            spent: BTreeMap::new(),
        }
    }

    /// The latest ones are the interesting ones.
    fn pick(&self, which: usize) -> Option<Approval> {
        self.opened.iter().rev().nth(which).cloned()
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Ask(version) => self.ask(*version).await,
            Act::Vote(who, yes, which) => {
                let Some(approval) = self.pick(*which) else {
                    return;
                };
                let voted = match yes {
                    true => self.world.approve(VOTERS[*who], &approval).await,
                    false => self.world.deny(VOTERS[*who], &approval).await,
                };
                drop(voted);
            }
            Act::Redeem(version, which, key) => {
                if let Some(approval) = self.pick(*which) {
                    self.redeem(*version, &approval, *key).await;
                }
            }
            Act::Cancel(which) => {
                if let Some(approval) = self.pick(*which) {
                    drop(self.world.cancel(by_caller("gateway"), &approval).await);
                }
            }
            Act::Revoke(which) => {
                if let Some(approval) = self.pick(*which) {
                    drop(self.world.revoke(by_person("carol"), &approval).await);
                }
            }
            Act::Wait(minutes) => self.world.clock.forward(Duration::from_secs(60 * *minutes)),
            Act::TurnBack(minutes) => self.world.clock.back(Duration::from_secs(60 * *minutes)),
            Act::Sweep => drop(self.world.approvals.sweep("one").await.unwrap()),
            Act::Strand => drop(self.world.approvals.strand().await.unwrap()),
            Act::Edit(edit) => self.edit(*edit),
        }
    }

    async fn ask(&mut self, version: u8) {
        let Ok(authorized) = self.world.authorize(&ask(version)).await else {
            return;
        };
        if authorized.decision() == Decision::Allow {
            assert!(self.is_open_to_all(), "allowed without an approval");
        }
        if let ApprovalPart::Waits(approval) = authorized.approval
            && self.opened.iter().all(|known| known.id != approval.id)
        {
            self.opened.push(*approval);
        }
    }

    fn is_open_to_all(&self) -> bool {
        self.edits.contains(&Edit::NoGate) && !self.edits.contains(&Edit::Forbid)
    }

    async fn redeem(&mut self, version: u8, approval: &Approval, key: Option<u8>) {
        let mut redeeming = ask(version).redeeming(approval);
        redeeming.0.request_id = key.map(|key| key.to_string());
        let key = redeeming.0.request_id.clone();
        let Ok(authorized) = self.world.authorize(&redeeming).await else {
            return;
        };
        if authorized.decision() != Decision::Allow {
            return;
        }
        let is_the_request = approval.asked.request.context == redeeming.0.context;
        assert!(is_the_request, "allowed for another request");
        if matches!(authorized.approval, ApprovalPart::Untouched(_)) {
            assert!(self.is_open_to_all(), "allowed without redeeming");
            return;
        }
        let decision = authorized.decision_id.to_string();
        let id = approval.id.as_str().to_owned();
        if let Some(spent) = self.spent.get(&id) {
            assert!(key.is_some(), "spent twice without a key");
            assert_eq!(*spent, (key, decision), "spent twice");
            return;
        }
        self.check_justified(approval).await;
        self.spent.insert(id, (key, decision));
    }

    /// What was recorded justifies that the grant was spent just now.
    async fn check_justified(&self, approval: &Approval) {
        let records = self.world.records(&approval.id).await;
        let redeemed = records
            .iter()
            .filter(|record| matches!(record.what, Happening::Changed(Event::Redeem(_))));
        assert_eq!(redeemed.count(), 1);
        let votes: Vec<(&ControlRecord, &str, Choice)> = records
            .iter()
            .filter_map(|record| match &record.what {
                Happening::Changed(Event::Vote(ballot)) => {
                    Some((record, ballot.voter.account.id.as_str(), ballot.choice))
                }
                Happening::Changed(_)
                | Happening::Opened(_)
                | Happening::Refused(..)
                | Happening::TimedOut
                | Happening::Reminded
                | Happening::Escalated => None,
            })
            .collect();
        assert!(
            votes
                .iter()
                .all(|(_, _, choice)| *choice == Choice::Approve),
            "a no was lost"
        );
        let persons: BTreeSet<&str> = votes
            .iter()
            .filter(|(_, who, _)| self.may_approve(who))
            .map(|(_, who, _)| self.person(who))
            .collect();
        let needed = if self.edits.contains(&Edit::ThreePersons) {
            3
        } else {
            2
        };
        assert!(
            persons.len() >= needed,
            "{needed} persons, but {persons:?}: {votes:?}"
        );
        assert!(!self.edits.contains(&Edit::Forbid) && !self.edits.contains(&Edit::NoGate));
        let decided = votes.last().unwrap().0.at;
        let now = countersign::usecase::ports::Clock::now(&*self.world.clock);
        assert!(
            now < decided.checked_add(10 * MINUTE).unwrap(),
            "the grant was over"
        );
        assert!(decided < approval.expires, "the time to vote was over");
    }

    fn person<'a>(&self, account: &'a str) -> &'a str {
        match account {
            "dora-admin" => "dora",
            "bob" if self.edits.contains(&Edit::BobIsAlice) => "alice",
            other => other,
        }
    }

    fn may_approve(&self, account: &str) -> bool {
        match account {
            "alice" => !self.edits.contains(&Edit::AliceLeaves),
            "carol" => !self.edits.contains(&Edit::CarolOwnsTheAgent),
            "bob" | "dora" | "dora-admin" => true,
            _ => false,
        }
    }

    fn edit(&mut self, edit: Edit) {
        let is_on = self.edits.insert(edit);
        if !is_on {
            self.edits.remove(&edit);
        }
        let world = &self.world;
        let swap = |path, off, on| {
            let (old, new) = if is_on { (off, on) } else { (on, off) };
            world.replace(path, old, new);
        };
        let owner =
            |id: &str| serde_json::json!({ "owner": { "__entity": { "type": "User", "id": id } } });
        match edit {
            Edit::Forbid => {
                let text = "@id(\"frozen\") forbid (principal, action, resource);\n";
                world.write("frozen.cedar", if is_on { text } else { "" });
            }
            Edit::NoGate => swap("policies.cedar", "== \"prod\"", "== \"moon\""),
            Edit::ThreePersons => {
                swap("approvals.toml", "approvals     = 2", "approvals     = 3");
            }
            Edit::AliceLeaves => world.user("alice", &[], if is_on { &[] } else { &["sre"] }),
            Edit::BobIsAlice => {
                world.user("bob", if is_on { &["alice"] } else { &[] }, &["sre"]);
            }
            Edit::CarolOwnsTheAgent => {
                world.entity(
                    "Agent::\"bot\"",
                    owner(if is_on { "carol" } else { "olive" }),
                );
            }
        }
        world.reload();
    }

    /// The records tell the whole story: played again they lead to what is stored.
    async fn check_replay(&self) {
        let filter = ApprovalFilter::default();
        let (page, _) = self.world.approvals.list(filter, None, 1000).await.unwrap();
        for stored in page.approvals {
            let records = self.world.records(&stored.id).await;
            let mut played: Option<Approval> = None;
            for record in &records {
                let event = match &record.what {
                    Happening::Opened(opened) => {
                        assert!(played.is_none());
                        played = Some((**opened).clone());
                        continue;
                    }
                    Happening::Changed(event) | Happening::Refused(event, _) => event,
                    Happening::TimedOut | Happening::Reminded | Happening::Escalated => {
                        &Event::Tick
                    }
                };
                let before = played.take().unwrap();
                assert_eq!(record.from, Some(before.status()));
                let after = before.apply(event, record.at).approval;
                assert_eq!(record.to, after.status());
                assert_eq!(record.version, after.version);
                let may_follow = record.from == Some(record.to)
                    || Status::TRANSITIONS.contains(&(record.from.unwrap(), record.to));
                assert!(may_follow, "{:?} to {}", record.from, record.to);
                played = Some(after);
            }
            assert_eq!(played, Some(stored));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_allowed_is_justified(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new();
            for act in &acts {
                play.act(act).await;
            }
            play.check_replay().await;
        });
    }
}
