//! What recording costs: the serving thread, the writing thread, the disk; and how fast a log is verified.
//!
//! `cargo bench --bench audit`. The floor of each figure is in the same run: deciding without recording, and hashing alone.
//!
//! | figure | how |
//! |---|---|
//! | serving thread | kept decisions in process, with and without a log, taking turns |
//! | writing thread | 100,000 decisions a second, paced, for ten seconds; its CPU time from `/proc` |
//! | disk | the size of the log's folder by the decisions in it |
//! | verifying | the program's own `audit verify`, on the log that was just written |

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::pedantic,
    reason = "a bench measures real time, prints, and stops at the unexpected"
)]

mod workload;

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::audit::tree::{Frontier, leaf_hash};
use countersign::config::{Config, StoreChoice};
use countersign::model::Request;
use countersign::server::{Parts, Server};
use countersign::usecase::{ActiveSnapshot, Authorizer, Step};
use prost::Message;
use workload::Shape;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITIES: usize = 1_000;
const REQUESTS: usize = 512;
const ROUND: usize = 50_000;
const ROUNDS: usize = 15;
const RATE: usize = 100_000;
const PACED: Duration = Duration::from_secs(10);
/// How often decisions come, where they are paced.
const TICK: Duration = Duration::from_millis(1);

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let policies = folder.path().join("policies");
    for file in workload::files(Shape::Mixed, 10_000, ENTITIES) {
        let path = policies.join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.bytes).unwrap();
    }
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.server.threads = 1;
    config.identity.unauthenticated_callers = true;
    config.policy.dir = policies;
    config.approvals.store = StoreChoice::None;
    config.audit.path = folder.path().join("audit");
    config.audit.heads = folder.path().join("heads.txt");
    let recorded = Parts::for_server(&config, None).unwrap();
    let plain = Parts::assemble(&config, None);
    for parts in [&recorded, &plain] {
        parts.reloader.reload();
    }
    let server = Server::start(&config, recorded).unwrap();
    serving_thread(&server.parts().authorizer, &plain.authorizer);
    writing_thread(&server.parts().authorizer);
    server.stop();
    disk_and_verification(&config.audit.path, &config.audit.heads);
}

/// Requests whose decisions are kept and need nobody's approval.
fn requests(authorizer: &Authorizer) -> (Arc<ActiveSnapshot>, Vec<Request>) {
    let active = authorizer.active().unwrap();
    let mut requests = Vec::new();
    for number in 0..REQUESTS * 4 {
        let request =
            countersign::grpc::decode_request(&workload::request(number, ENTITIES).encode_to_vec());
        let request = request.expect("a request");
        if let Ok(Step::Done(_)) = authorizer.begin(&active, request.clone()) {
            requests.push(request);
        }
    }
    requests.truncate(REQUESTS);
    assert_eq!(requests.len(), REQUESTS);
    (active, requests)
}

/// Thread CPU time a decision, without the copy of the request.
fn round(authorizer: &Authorizer, (active, requests): &(Arc<ActiveSnapshot>, Vec<Request>)) -> f64 {
    let copies: Vec<Request> = (0..ROUND)
        .map(|number| requests[number % REQUESTS].clone())
        .collect();
    let before = thread_cpu();
    for request in copies {
        match authorizer.begin(active, request) {
            Ok(Step::Done(authorized)) => {
                black_box(authorized);
            }
            other => panic!("no room, or no decision: {other:?}"),
        }
    }
    thread_cpu().saturating_sub(before).as_nanos() as f64 / ROUND as f64
}

fn serving_thread(recorded: &Authorizer, plain: &Authorizer) {
    let (with, without) = (requests(recorded), requests(plain));
    let (mut recording, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(round(plain, &without));
        recording.push(round(recorded, &with));
        // The buffers are emptied meanwhile.
        std::thread::sleep(Duration::from_millis(200));
    }
    let (recording, floor) = (median(recording), median(floor));
    println!(
        "serving thread: a kept decision takes {floor:.0} ns, recorded {recording:.0} ns: {:.0} ns a record",
        recording - floor
    );
}

fn writing_thread(authorizer: &Authorizer) {
    let (active, requests) = requests(authorizer);
    std::thread::sleep(Duration::from_millis(200));
    let before = (Instant::now(), cpu_of("decision-log"));
    let (mut done, mut waited) = (0, 0);
    while before.0.elapsed() < PACED {
        let due = (before.0.elapsed().as_secs_f64() * RATE as f64) as usize;
        while done < due {
            let request = requests[done % REQUESTS].clone();
            match authorizer.begin(&active, request) {
                Ok(Step::Done(authorized)) => drop(black_box(authorized)),
                Ok(Step::Waits(_)) => waited += 1,
                Err(error) => panic!("{error}"),
            }
            done += 1;
        }
        std::thread::sleep(TICK);
    }
    let took = before.0.elapsed().as_secs_f64();
    let cpu = cpu_of("decision-log")
        .saturating_sub(before.1)
        .as_secs_f64();
    println!(
        "writing thread: {:.0} decisions/s for {took:.1} s take {:.1} % of a core, {:.0} ns a record; {waited} found no room",
        done as f64 / took,
        cpu / took * 100.0,
        cpu * 1e9 / done as f64,
    );
}

fn disk_and_verification(audit: &Path, heads: &Path) {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["audit", "verify", "--format", "json", "--heads"])
        .arg(heads)
        .arg(audit)
        .output()
        .unwrap();
    let took = started.elapsed().as_secs_f64();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{}", report["verdict"]);
    let log = fs::read_dir(audit.join("decision"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .next()
        .unwrap();
    let reader = countersign::storage::log_folder::FolderReader::open(&log).unwrap();
    let records = reader.size();
    let bytes: u64 = fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "disk: {records} decisions in {bytes} bytes: {:.1} a decision",
        bytes as f64 / records as f64
    );
    println!(
        "verifying: {took:.2} s: {:.0} records/s",
        records as f64 / took
    );
    // The floor: the same leaves, hashed and nothing else.
    let leaves: Vec<Vec<u8>> = reader
        .records(0, 200_000)
        .map(|record| record.unwrap().1)
        .collect();
    let raw: usize = leaves.iter().map(Vec::len).sum();
    let started = Instant::now();
    let mut frontier = Frontier::new();
    leaves
        .iter()
        .for_each(|leaf| frontier.push(leaf_hash(leaf)));
    black_box(frontier.root());
    println!(
        "floor: hashing {} records of {} bytes: {:.0} records/s",
        leaves.len(),
        raw / leaves.len(),
        leaves.len() as f64 / started.elapsed().as_secs_f64()
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    cpu_in(Path::new("/proc/thread-self/schedstat"))
}

/// The CPU time of the thread called `name`.
fn cpu_of(name: &str) -> Duration {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).unwrap().trim() == name {
            return cpu_in(&task.join("schedstat"));
        }
    }
    panic!("no thread is called {name}");
}

fn cpu_in(schedstat: &Path) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}
