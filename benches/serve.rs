//! A real server over loopback, beside an echo server of the same message shape in the same run.
//!
//! `cargo bench --bench serve` prints the tables of `docs/performance.md`. Each server is a process of its own (this program,
//! started again) with one serving thread, so that its CPU time and memory can be read; the load comes from another.
//!
//! | server | runtime |
//! |---|---|
//! | echo, default | tonic's server on tokio's multi-thread runtime, as most services run |
//! | echo, ours | tonic's server on one current-thread runtime |
//! | countersign | one serving thread, 10 and 10,000 policies |
//!
//! Closed loop gives throughput; a constant rate, measured from when a call was due, gives latency without coordinated omission.

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
#[path = "serve/production.rs"]
mod production;
mod workload;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::config::{Config, StoreChoice};
use countersign::grpc::proto::authorization_service_server::{
    AuthorizationService, AuthorizationServiceServer,
};
use countersign::grpc::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeRequest, BatchAuthorizeResponse, Decision,
    DeterminingPolicy, Effect, ExplainRequest, ExplainResponse,
};
use countersign::server::{Parts, Server};
use load::{Call, Report};
use prost::Message;
use tempfile::TempDir;
use tonic::{Request, Response, Status};
use workload::Shape;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITIES: usize = 1_000;
const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_millis(700);
const DURATION: Duration = Duration::from_secs(2);
const SINGLE: &str = "/countersign.v1.AuthorizationService/Authorize";
const BATCH: &str = "/countersign.v1.AuthorizationService/BatchAuthorize";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--child") {
        return run_child(&arguments[at + 1..]);
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--load") {
        // For a profiler that is attached to a server: ten seconds of load, nothing measured.
        let address = arguments[at + 1].parse().expect("an address");
        load::closed_loop(
            address,
            &warm_call(),
            CONNECTIONS,
            IN_FLIGHT,
            Duration::ZERO,
            DURATION * 5,
        )
        .expect("it answers");
        return;
    }
    let parts: [(&str, fn()); 7] = [
        ("throughput", throughput),
        ("production", in_production),
        ("uncached", uncached),
        ("batch", batch),
        ("latency", latency),
        ("start", start_up),
        ("reload", reload),
    ];
    // `cargo bench --bench serve -- batch` runs one part.
    let chosen = |name: &str| arguments.iter().any(|argument| argument == name);
    let all = !parts.iter().any(|(name, _)| chosen(name));
    for (name, measure) in parts {
        if all || chosen(name) {
            measure();
        }
    }
}

// ---------------------------------------------------------------- servers

/// The answer the echo gives: of the size and shape of a real one.
#[derive(Clone)]
struct Echo(AuthorizeResponse);

impl Echo {
    fn new() -> Self {
        Self(AuthorizeResponse {
            decision: Decision::Allow.into(),
            decision_id: "01a20466-06a9-780f-be57-24736ecad443".to_owned(),
            policy_version: "e597421c5e55f75c2edadbbdc4ec4b9ac70e2461b2a3cc112169d49e1623db4c"
                .to_owned(),
            determining: vec![DeterminingPolicy {
                id: "resource-123".to_owned(),
                effect: Effect::Permit.into(),
                annotations: std::collections::BTreeMap::new(),
            }],
            cacheable: true,
            ..AuthorizeResponse::default()
        })
    }
}

#[tonic::async_trait]
impl AuthorizationService for Echo {
    async fn authorize(
        &self,
        _: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn batch_authorize(
        &self,
        _: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }

    async fn explain(
        &self,
        _: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        Err(Status::unimplemented("an echo"))
    }
}

fn run_child(arguments: &[String]) {
    match arguments[0].as_str() {
        "echo-default" => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(echo());
        }
        "echo-ours" => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(echo());
        }
        "countersign" => countersign(
            Path::new(&arguments[1]),
            arguments[2].parse().expect("bytes"),
            arguments.get(3).map(Path::new),
        ),
        "echo-tls" => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(production::echo(Path::new(&arguments[1])));
        }
        "production" => production::countersign(
            Path::new(&arguments[1]),
            Path::new(&arguments[2]),
            Path::new(&arguments[3]),
        ),
        other => panic!("no server is called {other}"),
    }
}

async fn echo() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(AuthorizationServiceServer::new(Echo::new()))
        .serve_with_incoming(incoming)
        .await
        .expect("it serves");
}

/// Serves `dir`; records every decision in `audit`, as servers do, or none.
fn countersign(dir: &Path, cache_bytes: u64, audit: Option<&Path>) {
    let started = Instant::now();
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.server.threads = 1;
    config.policy.dir = dir.to_owned();
    config.policy.cache_bytes = cache_bytes;
    config.identity.unauthenticated_callers = true;
    config.approvals.store = StoreChoice::None;
    config.audit.enabled = audit.is_some();
    if let Some(folder) = audit {
        config.audit.path = folder.join("audit");
        config.audit.heads = folder.join("heads.txt");
    }
    let parts = Parts::for_server(&config, None).expect("its parts");
    parts.reloader.reload();
    let server = Server::start(&config, parts).expect("it starts");
    println!("{}", server.addresses().tcp[0]);
    println!("{}", started.elapsed().as_millis());
    let signals = server.signals().expect("signals");
    server.run(signals);
}

/// A server in a process of its own.
struct Process {
    child: Child,
    address: SocketAddr,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    /// Where it records what it decides.
    audit: Option<TempDir>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg("--child")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = lines
            .next()
            .expect("a line")
            .expect("text")
            .parse()
            .expect("an address");
        Self {
            child,
            address,
            lines,
            audit: None,
        }
    }

    /// With every decision recorded, on a disk and not in memory.
    fn countersign(dir: &Path, cache_bytes: u64) -> Self {
        let audit = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut started = Self::start(&[
            "countersign",
            &dir.display().to_string(),
            &cache_bytes.to_string(),
            &audit.path().display().to_string(),
        ]);
        started.audit = Some(audit);
        started
    }

    /// As it is run where it matters.
    fn production(dir: &Path, credentials: &production::Credentials) -> Self {
        let audit = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut started = Self::start(&[
            "production",
            &dir.display().to_string(),
            &audit.path().display().to_string(),
            credentials.path(),
        ]);
        started.audit = Some(audit);
        started
    }

    fn unrecorded(dir: &Path, cache_bytes: u64) -> Self {
        Self::start(&[
            "countersign",
            &dir.display().to_string(),
            &cache_bytes.to_string(),
        ])
    }

    /// User and system time, from `/proc`.
    fn cpu(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|at| fields[*at].parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 10)
    }

    fn memory_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("a process");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .expect("a size");
        line.split_whitespace()
            .nth(1)
            .expect("a number")
            .parse::<u64>()
            .expect("a number")
            / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

// ---------------------------------------------------------------- calls

fn single(requests: impl Iterator<Item = usize>) -> Call {
    Call {
        path: SINGLE.to_owned(),
        authority: "localhost".to_owned(),
        bodies: requests
            .map(|number| workload::request(number, ENTITIES).encode_to_vec())
            .collect(),
        login: None,
        tls: None,
    }
}

/// The requests that policies by resource allow, so that an answer has something in it.
fn warm_call() -> Call {
    single((0..400).map(|number| number * 4 + 1))
}

fn closed(process: &Process, call: &Call, connections: usize) -> (Report, Duration) {
    // The first calls fill the cache.
    load::closed_loop(
        process.address,
        call,
        connections,
        IN_FLIGHT,
        WARM_UP,
        Duration::from_millis(100),
    )
    .expect("it answers");
    let before = process.cpu();
    let report = load::closed_loop(
        process.address,
        call,
        connections,
        IN_FLIGHT,
        Duration::ZERO,
        DURATION,
    )
    .expect("it answers");
    assert_eq!(report.failures, 0, "calls failed");
    (report, process.cpu().saturating_sub(before))
}

struct Figure {
    rate: f64,
    cpu_us: f64,
}

fn figure(report: &Report, cpu: Duration) -> Figure {
    Figure {
        rate: report.calls as f64 / report.elapsed.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / report.calls as f64,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The medians of several rounds, the servers taking turns in each, so that what disturbs the machine disturbs them alike.
fn rounds(processes: &[(&str, Process)], call: &Call, connections: usize) -> Vec<Figure> {
    let mut figures: Vec<Vec<Figure>> = processes.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, process), figures) in processes.iter().zip(&mut figures) {
            let (report, cpu) = closed(process, call, connections);
            figures.push(figure(&report, cpu));
        }
    }
    figures
        .into_iter()
        .map(|figures| Figure {
            rate: median(figures.iter().map(|figure| figure.rate).collect()),
            cpu_us: median(figures.iter().map(|figure| figure.cpu_us).collect()),
        })
        .collect()
}

fn policy_dir(policies: usize) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in workload::files(Shape::Mixed, policies, ENTITIES) {
        let path = folder.path().join(file.path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, file.bytes).expect("a file");
    }
    folder
}

// ---------------------------------------------------------------- measurements

fn throughput() {
    let (small, large) = (policy_dir(10), policy_dir(10_000));
    let call = warm_call();
    let processes = [
        ("echo, default runtime", Process::start(&["echo-default"])),
        ("echo, ours", Process::start(&["echo-ours"])),
        (
            "countersign, 10 policies",
            Process::countersign(small.path(), 64 << 20),
        ),
        (
            "countersign, 10,000 policies",
            Process::countersign(large.path(), 64 << 20),
        ),
        (
            "countersign, 10,000 policies, nothing recorded",
            Process::unrecorded(large.path(), 64 << 20),
        ),
    ];
    for (name, process) in &processes {
        let (bytes, status) = load::one(process.address, &call, 0).expect("an answer");
        let answer = AuthorizeResponse::decode(bytes.as_slice()).expect("a response");
        println!(
            "<!-- {name}: status {status}, {} bytes, {:?} -->",
            bytes.len(),
            answer.decision()
        );
    }
    println!(
        "\n### Cached Authorize, closed loop, {CONNECTIONS} connections x {IN_FLIGHT} in flight, median of {ROUNDS}\n"
    );
    println!(
        "| server | calls/s | server CPU per call | of the echo on our runtime | of the default echo |\n|---|---|---|---|---|"
    );
    let figures = rounds(&processes, &call, CONNECTIONS);
    for ((name, _), figure) in processes.iter().zip(&figures) {
        println!(
            "| {name} | {:.0} | {:.2} us | {:.2} | {:.2} |",
            figure.rate,
            figure.cpu_us,
            figure.rate / figures[1].rate,
            figure.rate / figures[0].rate
        );
    }
}

/// What it costs to know the callers, to encrypt, to measure and to trace, beside the plain figures of the same run.
fn in_production() {
    let large = policy_dir(10_000);
    let credentials = production::Credentials::new();
    let (plain, encrypted) = (
        warm_call(),
        Call {
            tls: Some(credentials.client()),
            ..warm_call()
        },
    );
    let servers = [
        ("echo, plain", Process::start(&["echo-ours"]), &plain),
        (
            "echo, mutual TLS",
            Process::start(&["echo-tls", credentials.path()]),
            &encrypted,
        ),
        (
            "countersign, plain",
            Process::countersign(large.path(), 64 << 20),
            &plain,
        ),
        (
            "countersign, mutual TLS, bound callers, metrics, traces (1 %), audit",
            Process::production(large.path(), &credentials),
            &encrypted,
        ),
    ];
    let mut figures: Vec<Vec<Figure>> = servers.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, process, call), figures) in servers.iter().zip(&mut figures) {
            let (report, cpu) = closed(process, call, CONNECTIONS);
            figures.push(figure(&report, cpu));
        }
    }
    println!(
        "\n### Cached Authorize as in production, {CONNECTIONS} connections x {IN_FLIGHT} in flight, median of {ROUNDS}\n"
    );
    println!(
        "| server | calls/s | server CPU per call | calls/s of the plain echo | of the echo with TLS |\n|---|---|---|---|---|"
    );
    let rate = |figures: &Vec<Figure>| median(figures.iter().map(|figure| figure.rate).collect());
    for ((name, ..), each) in servers.iter().zip(&figures) {
        let cpu = median(each.iter().map(|figure| figure.cpu_us).collect());
        println!(
            "| {name} | {:.0} | {cpu:.2} us | {:.2} | {:.2} |",
            rate(each),
            rate(each) / rate(&figures[0]),
            rate(each) / rate(&figures[1])
        );
    }
}

fn uncached() {
    let (small, large) = (policy_dir(10), policy_dir(10_000));
    let call = single((0..1_800).map(|number| number * 4 + 1));
    let processes = [
        ("10 policies", Process::countersign(small.path(), 0)),
        ("10,000 policies", Process::countersign(large.path(), 0)),
    ];
    println!("\n### Uncached Authorize (no cache at all), the whole call\n");
    println!("| policies | calls/s | server CPU per call | of 10 policies |\n|---|---|---|---|");
    let figures = rounds(&processes, &call, CONNECTIONS);
    for ((name, _), figure) in processes.iter().zip(&figures) {
        println!(
            "| {name} | {:.0} | {:.1} us | {:.2} x |",
            figure.rate,
            figure.cpu_us,
            figure.cpu_us / figures[0].cpu_us
        );
    }
}

fn batch() {
    let large = policy_dir(10_000);
    let process = Process::countersign(large.path(), 64 << 20);
    let requests: Vec<AuthorizeRequest> = (0..32)
        .map(|number| workload::request(number * 4 + 1, ENTITIES))
        .collect();
    let call = Call {
        path: BATCH.to_owned(),
        authority: "localhost".to_owned(),
        bodies: vec![BatchAuthorizeRequest { requests }.encode_to_vec()],
        login: None,
        tls: None,
    };
    let processes = [("batch", process)];
    let figures = rounds(&processes, &call, 2);
    println!("\n### BatchAuthorize, 32 cached decisions a call, one serving thread\n");
    println!("| decisions/s | server CPU per decision | decisions/s of a core |\n|---|---|---|");
    let per_decision = figures[0].cpu_us / 32.0;
    println!(
        "| {:.0} | {per_decision:.2} us | {:.0} |",
        figures[0].rate * 32.0,
        1e6 / per_decision
    );
}

fn latency() {
    let large = policy_dir(10_000);
    let call = warm_call();
    let echo = Process::start(&["echo-ours"]);
    let ours = Process::countersign(large.path(), 64 << 20);
    let full = figure(&closed(&echo, &call, CONNECTIONS).0, Duration::ZERO).rate;
    let rate = (full / 2.0) as u64;
    println!(
        "\n### Cached Authorize at half load: {rate} calls/s, {CONNECTIONS} connections, from when a call was due\n"
    );
    println!("| server | p50 | p90 | p99 | p99.9 |\n|---|---|---|---|---|");
    let mut p99 = Vec::new();
    for (name, process) in [
        ("echo, ours", &echo),
        ("countersign, 10,000 policies", &ours),
    ] {
        let mut quantiles: Vec<Vec<f64>> = vec![Vec::new(); 4];
        for _ in 0..ROUNDS {
            let report =
                load::constant_rate(process.address, &call, CONNECTIONS, rate, WARM_UP, DURATION)
                    .expect("it answers");
            for (values, quantile) in quantiles.iter_mut().zip([0.5, 0.9, 0.99, 0.999]) {
                values.push(report.latency.value_at_quantile(quantile) as f64 / 1e3);
            }
        }
        let medians: Vec<f64> = quantiles.into_iter().map(median).collect();
        println!(
            "| {name} | {:.0} us | {:.0} us | {:.0} us | {:.0} us |",
            medians[0], medians[1], medians[2], medians[3]
        );
        p99.push(medians[2]);
    }
    println!("\np99 of the echo's: {:.2}", p99[1] / p99[0]);
}

fn start_up() {
    println!("\n### Start\n\n| policies | until it listens | memory |\n|---|---|---|");
    for policies in [10, 10_000] {
        let folder = policy_dir(policies);
        let mut process = Process::countersign(folder.path(), 64 << 20);
        let millis = process.lines.next().expect("a line").expect("text");
        println!("| {policies} | {millis} ms | {} MB |", process.memory_mb());
    }
}

/// A constant rate while the directory of 10,000 policies changes again and again, beside the same without changes.
fn reload() {
    const RATE: u64 = 20_000;
    const LONG: Duration = Duration::from_secs(10);
    let folder = policy_dir(10_000);
    let process = Process::countersign(folder.path(), 64 << 20);
    let call = warm_call();
    let steady = load::constant_rate(process.address, &call, CONNECTIONS, RATE, WARM_UP, LONG)
        .expect("it answers");
    let path = folder.path().join("extra.cedar");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let editor = std::thread::spawn(move || {
        let mut edits: u32 = 0;
        while stopped.recv_timeout(Duration::from_millis(2_500)).is_err() {
            edits += 1;
            let text = format!(
                "@id(\"extra-{edits}\") permit (principal == User::\"nobody\", action, resource);\n"
            );
            let beside = path.with_extension("tmp");
            std::fs::write(&beside, text)
                .and_then(|()| std::fs::rename(&beside, &path))
                .expect("an edit");
        }
        edits
    });
    let changing = load::constant_rate(process.address, &call, CONNECTIONS, RATE, WARM_UP, LONG)
        .expect("it answers");
    stop.send(()).expect("the editor listens");
    let edits = editor.join().expect("the editor ends");
    println!(
        "\n### {edits} reloads of 10,000 policies under {RATE} calls/s\n\n| | p50 | p99 | p99.9 | max | failures |\n|---|---|---|---|---|---|"
    );
    for (name, report) in [("steady", &steady), ("reloading", &changing)] {
        let quantile = |at: f64| report.latency.value_at_quantile(at) as f64 / 1e3;
        println!(
            "| {name} | {:.0} us | {:.0} us | {:.0} us | {:.0} us | {} of {} |",
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            report.latency.max() as f64 / 1e3,
            report.failures,
            report.calls
        );
    }
    let ratio = changing.latency.value_at_quantile(0.999) as f64
        / steady.latency.value_at_quantile(0.999) as f64;
    println!("\np99.9 of the steady one's: {ratio:.2}");
    std::io::stdout().flush().ok();
}
