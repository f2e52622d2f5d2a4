//! A well-behaved client beside hostile ones, and a server that is offered three times what it can do.
//!
//! `cargo bench --bench hostile` prints the tables of `docs/performance.md`: about four minutes. `-- attacks 10` and
//! `-- overload 60` run one part, for as many seconds a row; `-- attacks PING` the rows with that in their name. With
//! `COUNTERSIGN=target/release/countersign` a program is measured instead of the library.
//!
//! Server, hostile clients and the well-behaved one share the machine. The hostile ones are processes of the lowest priority, and
//! the server has one serving thread: on two cores the well-behaved client then loses little to them, but not nothing. Latency
//! counts from when a call was due.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::pedantic,
    reason = "a bench measures real time, prints, and stops at the unexpected"
)]

mod load;
mod servers;
mod workload;

#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/bombs.rs"]
mod bombs;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/overload.rs"]
mod overload;

use std::io::Write;
use std::time::Duration;

use attacks::{ATTACKS, Attacker};
use load::{Call, Report};
use prost::Message;
use servers::{Memory, Process, watching_memory};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITIES: usize = 1_000;
const POLICIES: usize = 1_000;
const SINGLE: &str = "/countersign.v1.AuthorizationService/Authorize";
/// The well-behaved clients: so many connections, on each of which a call is due so often.
const CLIENTS: usize = 8;
const PERIOD: Duration = Duration::from_millis(40);
/// How long an attack is under way before it is looked at.
const RAMP: Duration = Duration::from_millis(500);
/// How many times hostile and quiet times take turns.
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        Some(&arguments[at + 1..])
    };
    if let Some(child) = after("--child") {
        return servers::run_child(child);
    }
    if let Some(attacker) = after("--attack") {
        return attacks::run_attacker(attacker);
    }
    let (attacks, overload) = (after("attacks"), after("overload"));
    let is_all = attacks.is_none() && overload.is_none();
    if let Some(wanted) = attacks.or_else(|| is_all.then_some(&[])) {
        hostile(
            seconds(wanted, 2),
            wanted.first().map_or("", String::as_str),
        );
    }
    if let Some(wanted) = overload.or_else(|| is_all.then_some(&[])) {
        overload::measure(seconds(wanted, 10));
    }
}

fn seconds(arguments: &[String], default: u64) -> Duration {
    let given = arguments.first().and_then(|number| number.parse().ok());
    Duration::from_secs(given.unwrap_or(default))
}

/// Authorize with the `requests` of the workload.
fn single(requests: impl Iterator<Item = usize>) -> Call {
    Call {
        path: SINGLE.to_owned(),
        authority: "localhost".to_owned(),
        bodies: requests
            .map(|number| workload::request(number, ENTITIES).encode_to_vec())
            .collect(),
        login: Some("development:polite"),
        tls: None,
    }
}

/// What the well-behaved client asks: a few requests, which are kept after the first round.
fn polite_call() -> Call {
    single((0..40).map(|number| number * 4 + 1))
}

fn micros(report: &Report, quantile: f64) -> f64 {
    report.latency.value_at_quantile(quantile) as f64 / 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One row: quiet and hostile times in turn, on a server of its own.
fn hostile(duration: Duration, wanted: &str) {
    println!(
        "\n### Well-behaved clients ({CLIENTS}, together {} calls/s) beside hostile ones, {POLICIES} policies, one serving thread, median of {ROUNDS} x {} s\n",
        CLIENTS as u128 * 1_000 / PERIOD.as_millis(),
        duration.as_secs()
    );
    println!(
        "| hostile clients | of them | closed | server CPU | p50 quiet, hostile | p90 quiet, hostile | p99 quiet, hostile | p99 ratio | failed | memory before, peak, after | serves |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, counted, _) in ATTACKS {
        if wanted.parse::<u64>().is_ok() || name.contains(wanted) {
            let row = row(name, counted, duration);
            println!("{row}");
            std::io::stdout().flush().ok();
        }
    }
}

fn row(name: &str, counted: &str, duration: Duration) -> String {
    let call = polite_call();
    let server = Process::countersign(POLICIES, ENTITIES);
    // The first calls fill the cache.
    load::one_at_a_time(server.address, &call, CLIENTS, PERIOD, RAMP).expect("it answers");
    let mut quiet = Vec::new();
    let mut beside = Vec::new();
    let (mut operations, mut closed, mut failed, mut lost) = (0, 0, 0, 0);
    let mut cpu = Duration::ZERO;
    let ((), memory) = watching_memory(server.id(), || {
        for _ in 0..ROUNDS {
            let report = load::one_at_a_time(server.address, &call, CLIENTS, PERIOD, duration);
            quiet.push(report.expect("it answers"));
            let attacker = Attacker::start(name, server.address, RAMP + duration + RAMP / 5);
            std::thread::sleep(RAMP);
            let before = server.cpu();
            match load::one_at_a_time(server.address, &call, CLIENTS, PERIOD, duration) {
                Ok(report) => {
                    failed += report.failures;
                    beside.push(report);
                }
                Err(_) => lost += 1,
            }
            cpu += server.cpu().saturating_sub(before);
            let done = attacker.finish();
            operations += done.operations;
            closed += done.closed;
        }
    });
    let of = |reports: &[Report], quantile| {
        median(
            reports
                .iter()
                .map(|report| micros(report, quantile))
                .collect(),
        )
    };
    let (p99_quiet, p99_hostile) = (of(&quiet, 0.99), of(&beside, 0.99));
    let Memory {
        before,
        peak,
        after,
    } = memory;
    let share = cpu.as_secs_f64() / (duration.as_secs_f64() * ROUNDS as f64) * 100.0;
    let rate = operations as f64 / ((duration + RAMP + RAMP / 5).as_secs_f64() * ROUNDS as f64);
    let serves = matches!(load::one(server.address, &call, 0), Ok((_, 0)));
    let lost = if lost > 0 {
        format!(" and {lost} connections")
    } else {
        String::new()
    };
    format!(
        "| {name} | {rate:.0} {counted}/s | {closed} | {share:.0} % | {:.0}, {:.0} us | {:.0}, {:.0} us | {p99_quiet:.0}, {p99_hostile:.0} us | {:.1} | {failed}{lost} | {before:.0}, {peak:.0}, {after:.0} MB | {} |",
        of(&quiet, 0.5),
        of(&beside, 0.5),
        of(&quiet, 0.9),
        of(&beside, 0.9),
        p99_hostile / p99_quiet,
        if serves { "yes" } else { "**no**" }
    )
}
