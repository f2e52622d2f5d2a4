//! Random lives of approvals: each event is judged by a model that knows less, and by what must hold whatever happens.
//!
//! A life is repeated from its number; one that fails is told with the fewest events that still fail.

mod checks;
mod dice;
mod life;
mod model;

use std::fmt::Write as _;

use countersign::approval::{Approval, ControlRecord, Event, Happening, Status, Transition};
use jiff::Timestamp;

use dice::Dice;
use life::Life;
use model::Model;

/// How many events one life has at most.
const LONGEST_LIFE: usize = 60;

/// How many events are tried unless `COUNTERSIGN_STEPS` says otherwise.
const STEPS: u64 = 200_000;

/// The lives are shared among so many tests, so that they run beside one another.
const SHARES: u64 = 4;

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says how long, or which life again"
)]
fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// In one life of so many, every step is written and read back.
const READ_BACK_EVERY: u64 = 64;

/// What happened, and when.
type Step = (Timestamp, Event);

/// How often something was seen, so that the lives are known to reach everything.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    lives: u64,
    by_status: [u64; Status::ALL.len()],
    replayed: u64,
    done: u64,
}

/// An approval on its way, with all that must agree with it.
struct Course {
    first: Approval,
    approval: Approval,
    model: Model,
    records: Vec<ControlRecord>,
    /// Whether every step is written as JSON and read back; that takes longer than all the rest.
    reads_back: bool,
}

impl Course {
    fn new(first: &Approval, reads_back: bool) -> Self {
        Self {
            first: first.clone(),
            approval: first.clone(),
            model: Model::new(first),
            records: Transition::opening(first.clone()).records,
            reads_back,
        }
    }

    /// Lets an event happen, and judges what became of it. Says whether it was done.
    fn step(&mut self, event: &Event, now: Timestamp) -> Result<bool, String> {
        let expected = self.model.step(event, now);
        let transition = self.approval.clone().apply(event, now);
        checks::step(&self.approval, event, now, &transition)?;
        self.model.compare(&expected, &transition)?;
        let is_changed = transition.approval.version != self.approval.version;
        self.approval = transition.approval;
        if is_changed {
            checks::timer(&self.approval)?;
        }
        if self.reads_back {
            checks::round_trip(&self.approval, &transition.records)?;
        }
        self.records.extend(transition.records);
        Ok(transition.answer.is_ok())
    }

    /// An auditor who has only the records comes to the same approval.
    fn replay(&self) -> Result<(), String> {
        let mut approval = None;
        for record in &self.records {
            approval = match (&record.what, approval) {
                (Happening::Opened(opened), None) => Some((**opened).clone()),
                (Happening::Changed(event), Some(known)) => {
                    Some(Approval::apply(known, event, record.at).approval)
                }
                (Happening::TimedOut | Happening::Reminded | Happening::Escalated, Some(known)) => {
                    Some(Approval::apply(known, &Event::Tick, record.at).approval)
                }
                (Happening::Refused(..), known) => known,
                (what, known) => return Err(format!("{what:?} upon {known:?}")),
            };
            let version = approval.as_ref().map(|known: &Approval| known.version);
            // Two timers that fire at once are one tick and two records.
            if version < Some(record.version) {
                return Err(format!(
                    "the replay is at {version:?}, the record {record:?}"
                ));
            }
        }
        if approval.as_ref() == Some(&self.approval) {
            return Ok(());
        }
        Err(format!(
            "the records replay to {approval:?}, not to {:?}",
            self.approval
        ))
    }
}

/// Runs `steps` from the beginning; the first fault ends it.
fn run(first: &Approval, steps: &[Step]) -> Result<(), String> {
    let mut course = Course::new(first, true);
    for (now, event) in steps {
        course.step(event, *now)?;
    }
    course.replay()
}

/// The life of number `seed`.
fn live(seed: u64, seen: &mut Seen) -> Result<(), String> {
    let mut life = Life::new(Dice::new(seed));
    let mut course = Course::new(&life.first, (seed / SHARES).is_multiple_of(READ_BACK_EVERY));
    let mut steps = Vec::new();
    let mut epilogue = 5;
    seen.lives += 1;
    while steps.len() < LONGEST_LIFE && epilogue > 0 {
        let (now, event) = life.next(&course.approval);
        steps.push((now, event));
        let (now, event) = &steps[steps.len() - 1];
        match course.step(event, *now) {
            Ok(is_done) => seen.done += u64::from(is_done),
            Err(fault) => return Err(told(seed, &course.first, steps, &fault)),
        }
        seen.steps += 1;
        let status = course.approval.status();
        seen.by_status[status as usize] += 1;
        if status.is_terminal() {
            epilogue -= 1;
        }
    }
    course
        .replay()
        .map_err(|fault| told(seed, &course.first, steps, &fault))?;
    seen.replayed += 1;
    Ok(())
}

/// The fault with the fewest events that still fail.
fn told(seed: u64, first: &Approval, mut steps: Vec<Step>, fault: &str) -> String {
    let mut fault = fault.to_owned();
    let mut at = 0;
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        match run(first, &fewer) {
            Err(still) => {
                fault = still;
                steps = fewer;
                at = 0;
            }
            Ok(()) => at += 1,
        }
    }
    let mut text = format!("COUNTERSIGN_SEED={seed}: {fault}\n");
    let seats = first.seats();
    let barred: Vec<String> = first.asked.barred.keys().map(ToString::to_string).collect();
    writeln!(text, "opened at {}, until {}", first.opened, first.expires).unwrap();
    writeln!(text, "seats {seats:?}, barred {barred:?}").unwrap();
    for (now, event) in steps {
        writeln!(text, "  {now} {event:?}").unwrap();
    }
    text
}

/// Lives as many lives as make up one share of the steps.
fn check_share(share: u64) {
    if let Some(seed) = number_from("COUNTERSIGN_SEED") {
        if let Err(told) = live(seed, &mut Seen::default()) {
            panic!("{told}");
        }
        return;
    }
    let steps = number_from("COUNTERSIGN_STEPS").unwrap_or(STEPS) / SHARES;
    let mut seen = Seen::default();
    let mut seed = share;
    while seen.steps < steps {
        if let Err(told) = live(seed, &mut seen) {
            panic!("{told}");
        }
        seed += SHARES;
    }
    println!("{seen:?}, the last life was {}", seed - SHARES);
    if steps >= 10_000 {
        let least = seen.by_status.iter().min();
        assert!(least > Some(&(steps / 500)), "too rare: {seen:?}");
        assert!(seen.done > steps / 4, "too few events are done: {seen:?}");
    }
}

#[test]
fn random_lives_keep_every_promise_first_share() {
    check_share(0);
}

#[test]
fn random_lives_keep_every_promise_second_share() {
    check_share(1);
}

#[test]
fn random_lives_keep_every_promise_third_share() {
    check_share(2);
}

#[test]
fn random_lives_keep_every_promise_fourth_share() {
    check_share(3);
}
