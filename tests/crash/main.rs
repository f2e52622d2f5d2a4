//! Kills the program with SIGKILL while it opens, counts and redeems, starts it again, and compares it with what it had acknowledged.
//!
//! `README.md` beside this file says what that proves and how to run many cycles.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the unexpected, in its helpers too"
)]

mod check;
mod ledger;
mod program;
mod traffic;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use check::Checked;
use ledger::Ledger;
use program::{Place, Program};

/// How many cycles, unless `COUNTERSIGN_CRASH_CYCLES` says otherwise.
const CYCLES: u64 = 5;
/// The longest that a server lives under traffic.
const LONGEST_LIFE_MS: u64 = 150;
/// One in how many cycles kills a server that is only just starting, too.
const KILL_EARLY_ONE_IN: u32 = 4;
/// The longest that a server lives that is killed while it starts.
const LONGEST_START_MS: u64 = 80;

fn told(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is tested, and how much, is told by the environment"
    )]
    std::env::var(name).ok()
}

fn told_number(name: &str) -> Option<u64> {
    told(name).map(|text| text.parse().unwrap())
}

#[test]
fn what_was_acknowledged_outlives_being_killed() {
    let cycles = told_number("COUNTERSIGN_CRASH_CYCLES").unwrap_or(CYCLES);
    let seed = told_number("COUNTERSIGN_CRASH_SEED").unwrap_or_else(rand::random);
    println!("{cycles} cycles, COUNTERSIGN_CRASH_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let place = Place::new(told("COUNTERSIGN_CRASH_PROGRAM").map(Into::into));
    let runtime = Runtime::new().unwrap();
    let mut ledger = Ledger::default();
    let mut checked = Checked::default();
    let start = Instant::now();
    for cycle in 1..=cycles {
        if dice.random_ratio(1, KILL_EARLY_ONE_IN) {
            let life = Duration::from_millis(dice.random_range(0..LONGEST_START_MS));
            place.kill_while_starting(life);
        }
        // What the one before left behind is checked on the one that is killed next.
        let program = Program::start(&place);
        checked += runtime.block_on(check::last_cycle(&program, &mut ledger));
        let life = Duration::from_millis(dice.random_range(1..LONGEST_LIFE_MS));
        runtime.block_on(traffic::until_killed(program, &mut ledger, life));
        place.assert_sound();
        if cycle % 20 == 0 || cycle == cycles {
            place.assert_log_intact();
            println!(
                "{cycle} cycles in {:.1} s: {ledger}; {checked}",
                start.elapsed().as_secs_f64()
            );
        }
    }
    let program = Program::start(&place);
    checked += runtime.block_on(check::last_cycle(&program, &mut ledger));
    runtime.block_on(check::all(&program, &ledger));
    drop(program);
    let logged = place.assert_log_intact();
    println!("in the end {ledger}; {checked}; the log: {logged}");
    assert!(checked.approvals > 0, "nothing was tested");
}
