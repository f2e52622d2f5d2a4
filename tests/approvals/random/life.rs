//! What may happen to an approval: likely things often, unlikely things sometimes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use countersign::approval::{
    Actor, Approval, ApprovalId, Asked, Ballot, Cause, Choice, Digest, Event, FrozenRequirement,
    Opening, RedeemAttempt, ReportedOutcome, Standing, State, Status, Voter, Withdrawal,
};
use countersign::model::{EntityRef, PolicyVersion, Seat};
use jiff::Timestamp;

use super::super::support::{
    CALLER, alias, asked, at, attempt, request, rule, seat, seconds, user,
};
use super::dice::Dice;

const DAY_S: u64 = 24 * 3600;

/// The accounts with the one name of their person; two persons have two accounts.
const ACCOUNTS: [(&str, &str); 8] = [
    ("ann", "ann"),
    ("ann-admin", "ann"),
    ("ben", "ben"),
    ("cid", "cid"),
    ("dan", "dan"),
    ("eve", "eve"),
    ("eve-admin", "eve"),
    ("owner", "owner"),
];

/// Every life asks the same, since a view takes longer to build than many events to happen.
static ASKED: LazyLock<Asked> = LazyLock::new(|| asked(request(), &[], BTreeMap::new()));

/// An approval's surroundings: people, policies, and a clock that nobody trusts.
pub(crate) struct Life {
    dice: Dice,
    pub(crate) first: Approval,
    seats: Vec<Seat>,
    people: Vec<Voter>,
    /// What the policies of the day say of each account.
    standings: Vec<Standing>,
    policies: u32,
    now: Timestamp,
    past: Vec<Event>,
}

impl Life {
    pub(crate) fn new(mut dice: Dice) -> Self {
        let requirements = requirements(&mut dice);
        let mut barred = BTreeMap::new();
        for (name, percent) in [("owner", 90), ("eve-admin", 15), ("ann", 15), ("dan", 10)] {
            if dice.percent(percent) {
                barred.insert(user(name), format!("`{name}` is of the requester's side"));
            }
        }
        let opening = Opening {
            id: ApprovalId::new("a-1"),
            asked: Asked {
                barred,
                ..ASKED.clone()
            },
            requirements,
        };
        let first = Approval::open(opening, at(0));
        let mut seats: Vec<Seat> = first.seats().into_keys().collect();
        seats.push(seat("gone", ""));
        let mut life = Self {
            dice,
            seats,
            people: ACCOUNTS
                .iter()
                .map(|(account, name)| alias(account, name))
                .collect(),
            standings: Vec::new(),
            policies: 0,
            now: first.opened,
            first,
            past: Vec::new(),
        };
        life.change_policies();
        life
    }

    /// What happens next to `approval`, and when.
    pub(crate) fn next(&mut self, approval: &Approval) -> (Timestamp, Event) {
        if self.dice.percent(4) {
            self.change_policies();
        }
        self.pass_time(approval);
        // What was sent may be sent again, late and out of order.
        if !self.past.is_empty() && self.dice.percent(6) {
            return (self.now, self.dice.pick(&self.past).clone());
        }
        let event = self.event(approval);
        self.past.push(event.clone());
        (self.now, event)
    }

    fn version(&self) -> PolicyVersion {
        PolicyVersion::new(format!("p{}", self.policies))
    }

    fn change_policies(&mut self) {
        self.policies += 1;
        self.standings = (0..self.people.len()).map(|_| self.standing()).collect();
        // Identities are linked and unlinked.
        if self.dice.percent(15) {
            let names = ["ann", "ben", "cid", "dan", "eve", "owner"];
            let name = user(names[self.dice.below(names.len())]);
            let place = self.dice.below(self.people.len());
            self.people[place].canonical = name;
        }
    }

    fn standing(&mut self) -> Standing {
        match self.dice.weighted(&[85, 5, 10]) {
            0 => Standing::MayFill(self.dice.some(&self.seats, 60).into_iter().collect()),
            1 => Standing::Barred("created the job".to_owned()),
            _ => Standing::NotEligible("not a reviewer".to_owned()),
        }
    }

    fn pass_time(&mut self, approval: &Approval) {
        let seconds = |count: usize| jiff::SignedDuration::from_secs(i64::try_from(count).unwrap());
        match self.dice.weighted(&[40, 52, 3, 2, 3]) {
            0 => {}
            1 => self.now += seconds(self.dice.below(4)),
            2 => self.now -= seconds(self.dice.below(120)),
            3 => self.now += seconds(self.dice.below(120)),
            _ => {
                let moments = moments(approval);
                let moment = *self.dice.pick(&moments);
                let instant = jiff::SignedDuration::from_nanos(1);
                self.now = match self.dice.weighted(&[70, 15, 15]) {
                    0 => moment - instant,
                    1 => moment,
                    _ => moment + instant,
                };
            }
        }
    }

    fn event(&mut self, approval: &Approval) -> Event {
        //                join vote cancel revoke redeem supersede strand report tick
        let weights = match approval.status() {
            Status::Pending => [8, 70, 1, 2, 5, 1, 1, 2, 10],
            Status::Approved => [10, 25, 3, 3, 35, 2, 3, 3, 10],
            Status::Redeemed => [3, 10, 3, 3, 35, 3, 3, 35, 20],
            Status::Denied
            | Status::Expired
            | Status::Cancelled
            | Status::Superseded
            | Status::Revoked
            | Status::Lapsed => [1, 3, 1, 1, 3, 1, 1, 1, 1],
        };
        match self.dice.weighted(&weights) {
            0 => Event::Join,
            1 => self.vote(approval),
            2 => Event::Cancel(self.withdrawal()),
            3 => Event::Revoke(self.withdrawal()),
            4 => self.redeem(approval),
            5 => {
                let causes = [Cause::PolicyNowDenies, Cause::RequirementStronger];
                Event::Supersede(*self.dice.pick(&causes), self.version())
            }
            6 => Event::Strand(self.version()),
            7 => self.report(),
            _ => Event::Tick,
        }
    }

    /// What is said of the account at `place`: mostly what the policies say.
    fn said(&mut self, place: usize) -> Standing {
        if self.dice.percent(95) {
            self.standings[place].clone()
        } else {
            self.standing()
        }
    }

    fn vote(&mut self, approval: &Approval) -> Event {
        let place = self.dice.below(self.people.len());
        let choice = if self.dice.percent(4) {
            Choice::Deny
        } else {
            Choice::Approve
        };
        let mut ballot = Ballot {
            voter: self.people[place].clone(),
            choice,
            standing: self.said(place),
            policy_version: self.version(),
            request_digest: approval.asked.digest,
            view_digest: approval.asked.view_digest,
            comment: self.dice.percent(10).then(|| "so be it".to_owned()),
        };
        match self.dice.weighted(&[94, 3, 3]) {
            0 => {}
            1 => ballot.request_digest = other_digest(),
            _ => ballot.view_digest = other_digest(),
        }
        Event::Vote(Box::new(ballot))
    }

    fn caller(&mut self) -> String {
        let is_right = self.dice.percent(92);
        if is_right { CALLER } else { "somebody" }.to_owned()
    }

    fn withdrawal(&mut self) -> Withdrawal {
        let place = self.dice.below(self.people.len());
        let (by, standing) = match self.dice.weighted(&[40, 40, 10, 10]) {
            0 => (Actor::Caller(self.caller()), None),
            1 => {
                let said = self.said(place);
                (Actor::Person(self.people[place].clone()), Some(said))
            }
            2 => (Actor::Person(self.people[place].clone()), None),
            _ => (Actor::System, None),
        };
        Withdrawal {
            by,
            standing,
            comment: None,
        }
    }

    fn redeem(&mut self, approval: &Approval) -> Event {
        let mut redeem = RedeemAttempt {
            caller: self.caller(),
            key: self
                .dice
                .pick(&[None, Some("k1"), Some("k2")])
                .map(str::to_owned),
            decision_id: format!("d{}", self.past.len()),
            policy_version: self.version(),
            ..attempt(approval, None)
        };
        if self.dice.percent(5) {
            redeem.digest = other_digest();
        }
        if self.dice.percent(25) {
            self.judge_anew(approval, &mut redeem);
        }
        if self.dice.percent(15) {
            self.ask_otherwise(&mut redeem);
        }
        Event::Redeem(Box::new(redeem))
    }

    /// The policies of today say what the voters may do, and who they are.
    fn judge_anew(&mut self, approval: &Approval, redeem: &mut RedeemAttempt) {
        for vote in approval.approving_votes() {
            let place = self
                .people
                .iter()
                .position(|voter| voter.account == vote.voter.account)
                .unwrap();
            // Who somebody is may turn out late.
            let known = if self.dice.percent(90) {
                place
            } else {
                self.dice.below(self.people.len())
            };
            let name: EntityRef = self.people[known].canonical.clone();
            let said = self.said(place);
            let counted = vote.voter.canonical.clone();
            if self.dice.percent(5) {
                redeem.standings.remove(&counted);
            } else {
                redeem.standings.insert(counted, (name, said));
            }
        }
    }

    /// The policies of today ask for other seats.
    fn ask_otherwise(&mut self, redeem: &mut RedeemAttempt) {
        let place = self.dice.pick(&self.seats).clone();
        match self.dice.weighted(&[3, 3, 1, 1]) {
            0 => *redeem.seats.entry(place).or_default() += 1,
            1 => {
                redeem.seats.remove(&place);
            }
            2 => redeem.seats.clear(),
            _ => redeem.seats.values_mut().for_each(|count| *count = 0),
        }
    }

    fn report(&mut self) -> Event {
        let outcomes = [
            ReportedOutcome::Succeeded,
            ReportedOutcome::Failed,
            ReportedOutcome::Unknown,
        ];
        Event::Report {
            caller: self.caller(),
            outcome: *self.dice.pick(&outcomes),
            detail: self.dice.percent(20).then(|| "in my words".to_owned()),
        }
    }
}

/// One to three rules of one to three seats, all of which few people can fill.
fn requirements(dice: &mut Dice) -> Vec<FrozenRequirement> {
    let count = 1 + dice.weighted(&[6, 3, 1]);
    ["r1", "r2", "r3"][..count]
        .iter()
        .map(|name| requirement(name, dice))
        .collect()
}

fn requirement(name: &str, dice: &mut Dice) -> FrozenRequirement {
    let slots: &[(&str, u32)] = match dice.weighted(&[4, 3, 1, 3, 1]) {
        0 => &[("", 1)],
        1 => &[("", 2)],
        2 => &[("", 3)],
        3 => &[("a", 1), ("b", 1)],
        _ => &[("a", 2), ("b", 1)],
    };
    let timer = |dice: &mut Dice| {
        dice.percent(50)
            .then(|| seconds(*dice.pick(&[10, 20, 30, 200])))
    };
    FrozenRequirement {
        expires_after: seconds(*dice.pick(&[40, 60, 100, 2 * DAY_S])),
        redeem_within: seconds(*dice.pick(&[10, 30, 60])),
        remind_after: timer(dice),
        escalate_after: timer(dice),
        escalate_to: vec![format!("slack:#chiefs-of-{name}")],
        ..rule(name, slots)
    }
}

/// The moments at which time may change something.
fn moments(approval: &Approval) -> Vec<Timestamp> {
    let mut moments = vec![approval.expires];
    for rule in &approval.requirements {
        let timers = [rule.remind_after, rule.escalate_after];
        moments.extend(
            timers
                .into_iter()
                .flatten()
                .map(|wait| approval.opened + wait),
        );
    }
    match &approval.state {
        State::Approved(grant) => moments = vec![grant.until],
        State::Redeemed {
            grant, redemption, ..
        } => moments = vec![grant.until, redemption.at + seconds(DAY_S)],
        State::Pending | State::Closed(..) => {}
    }
    moments
}

fn other_digest() -> Digest {
    Digest::of("test", b"another")
}
