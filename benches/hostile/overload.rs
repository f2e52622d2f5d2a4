//! Three times more calls than the server can take, beside an echo that is offered as many.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::load::{self, Call, Overload, Report};
use crate::servers::{Memory, Process, watching_memory};
use crate::{ENTITIES, POLICIES, micros, polite_call, single};

const CONNECTIONS: usize = 8;
/// How long a call waits in its client for the server to let it begin.
const PATIENCE: Duration = Duration::from_millis(20);
const WARM_UP: Duration = Duration::from_millis(700);
const CAPACITY_TIME: Duration = Duration::from_secs(3);
/// How often each of the calls beside the load is made.
const PERIOD: Duration = Duration::from_millis(50);

/// Prints the table.
pub(crate) fn measure(duration: Duration) {
    let call = Call {
        // Somebody else than those who call beside the load.
        authority: "crowd".to_owned(),
        login: Some("development:crowd"),
        ..single((0..400).map(|number| number * 4 + 1))
    };
    let echo = Process::echo();
    let ours = Process::countersign(POLICIES, ENTITIES);
    let capacities = [capacity(echo.address, &call), capacity(ours.address, &call)];
    let offered = (capacities[1] * 3.0) as u64;
    println!(
        "\n### Offered {offered} calls/s for {} s: 3 x what countersign can do in a closed loop, {CONNECTIONS} connections\n",
        duration.as_secs()
    );
    println!(
        "| server | capacity | offered | answered well | of capacity | p50 | p99 | refused | kept back by HTTP/2 | server CPU | memory before, peak, after |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut beside = Vec::new();
    for ((name, process), capacity) in [("tonic echo", &echo), ("countersign", &ours)]
        .into_iter()
        .zip(capacities)
    {
        let before = process.cpu();
        let (loaded, memory) = watching_memory(process.id(), || {
            let others = if name == "countersign" {
                others()
            } else {
                vec![others().remove(0)]
            };
            under_load(process.address, &call, offered, duration, others)
        });
        let cpu = (process.cpu().saturating_sub(before)).as_secs_f64() / duration.as_secs_f64();
        print_row(name, capacity, duration, (&loaded.load, memory, cpu));
        beside.extend(
            loaded
                .others
                .into_iter()
                .map(|(call, report)| (name, call, report)),
        );
    }
    println!(
        "\n| calls beside it, each 20 times a second | p50 | p99 | longest | failed |\n|---|---|---|---|---|"
    );
    for (server, name, report) in beside {
        match report {
            Some(report) => println!(
                "| {server}: {name} | {:.1} ms | {:.1} ms | {:.1} ms | {} of {} |",
                micros(&report, 0.5) / 1e3,
                micros(&report, 0.99) / 1e3,
                report.latency.max() as f64 / 1e6,
                report.failures,
                report.calls
            ),
            None => println!("| {server}: {name} | the connection was lost | | | |"),
        }
    }
    let after = load::one(ours.address, &polite_call(), 0);
    println!(
        "\nAfterwards it serves: {}",
        if matches!(after, Ok((_, 0))) {
            "yes"
        } else {
            "**no**"
        }
    );
}

/// Calls a second in a closed loop.
fn capacity(address: SocketAddr, call: &Call) -> f64 {
    let report =
        load::closed_loop(address, call, 4, 64, WARM_UP, CAPACITY_TIME).expect("it answers");
    report.calls as f64 / report.elapsed.as_secs_f64()
}

/// What is called beside the load: an Authorize of somebody else, a health check, a read of the store, a look at the policies.
fn others() -> Vec<(&'static str, Call)> {
    let call = |path: &str| Call {
        path: path.to_owned(),
        authority: "localhost".to_owned(),
        bodies: vec![Vec::new()],
        login: Some("development:polite"),
        tls: None,
    };
    vec![
        ("Authorize, one at a time", polite_call()),
        ("health check", call("/grpc.health.v1.Health/Check")),
        (
            "ListApprovals",
            call("/countersign.v1.ApprovalService/ListApprovals"),
        ),
        (
            "GetPolicyStatus",
            call("/countersign.v1.PolicyService/GetPolicyStatus"),
        ),
    ]
}

struct Loaded {
    load: Overload,
    others: Vec<(&'static str, Option<Report>)>,
}

fn under_load(
    address: SocketAddr,
    call: &Call,
    offered: u64,
    duration: Duration,
    others: Vec<(&'static str, Call)>,
) -> Loaded {
    thread::scope(|scope| {
        let probes: Vec<_> = others
            .iter()
            .map(|(name, call)| {
                let probe = || load::one_at_a_time(address, call, 1, PERIOD, duration).ok();
                (*name, scope.spawn(probe))
            })
            .collect();
        let load = load::overload(address, call, CONNECTIONS, offered, PATIENCE, duration)
            .expect("it answers");
        let others = probes
            .into_iter()
            .map(|(name, probe)| (name, probe.join().expect("a probe ends")))
            .collect();
        Loaded { load, others }
    })
}

fn print_row(
    name: &str,
    capacity: f64,
    duration: Duration,
    (load, memory, cpu): (&Overload, Memory, f64),
) {
    let per_second = |count: u64| count as f64 / duration.as_secs_f64();
    let sent = &load.sent;
    let good = per_second(sent.calls - sent.failures);
    println!(
        "| {name} | {capacity:.0}/s | {:.0}/s | {good:.0}/s | {:.0} % | {:.1} ms | {:.1} ms | {:.0}/s | {:.0}/s | {:.0} % | {:.0}, {:.0}, {:.0} MB |",
        per_second(load.offered),
        good / capacity * 100.0,
        micros(sent, 0.5) / 1e3,
        micros(sent, 0.99) / 1e3,
        per_second(sent.failures),
        per_second(load.given_up),
        cpu * 100.0,
        memory.before,
        memory.peak,
        memory.after
    );
}
