//! The servers that are measured: each a process of its own, so that its processor time and memory can be read.

// Each bench uses its part of this module.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::pedantic,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "each bench uses its part"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::config::Config;
use countersign::grpc::proto::authorization_service_server::{
    AuthorizationService, AuthorizationServiceServer,
};
use countersign::grpc::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeRequest, BatchAuthorizeResponse, Decision,
    DeterminingPolicy, Effect, ExplainRequest, ExplainResponse,
};
use countersign::server::{Parts, Server};
use tempfile::TempDir;
use tonic::{Request, Response, Status};

use crate::workload::{self, Shape};

/// The program to measure instead of the library that this bench is built with.
const PROGRAM: &str = "COUNTERSIGN";

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

/// Serves as the arguments after `--child` say, until it is killed.
pub fn run_child(arguments: &[String]) {
    match arguments[0].as_str() {
        "echo" => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(echo());
        }
        "countersign" => countersign(Path::new(&arguments[1]), Path::new(&arguments[2])),
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
        .max_concurrent_streams(256)
        .add_service(AuthorizationServiceServer::new(Echo::new()))
        .serve_with_incoming(incoming)
        .await
        .expect("it serves");
}

/// Serves `dir` with one thread, every decision recorded, approvals kept in a file.
fn countersign(dir: &Path, state: &Path) {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.server.threads = 1;
    config.identity.unauthenticated_callers = true;
    config.identity.development_logins = true;
    // All hostile clients come from one address.
    config.limits.connections_per_caller = 20_000;
    config.policy.dir = dir.to_owned();
    config.approvals.path = state.join("approvals.sqlite");
    config.audit.enabled = true;
    config.audit.path = state.join("audit");
    config.audit.heads = state.join("heads.txt");
    let parts = Parts::for_server(&config, None).expect("its parts");
    parts.reloader.reload();
    let server = Server::start(&config, parts).expect("it starts");
    println!("{}", server.addresses().tcp[0]);
    let signals = server.signals().expect("signals");
    server.run(signals);
}

/// A server in a process of its own, which ends with this value.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    /// Kept open: a server whose output is closed may stop.
    _lines: std::io::Lines<BufReader<ChildStdout>>,
    /// Where it keeps what it must not forget.
    _state: Option<TempDir>,
    _policies: Option<TempDir>,
}

impl Process {
    /// The echo on one current-thread runtime.
    pub fn echo() -> Self {
        let mut command = this_program();
        command.args(["--child", "echo"]);
        Self::spawn(&mut command, None, None)
    }

    /// Countersign with one serving thread and `policies` policies: this library, or the program that the environment names.
    pub fn countersign(policies: usize, entities: usize) -> Self {
        let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let folder = policy_dir(policies, entities);
        let mut command = match std::env::var_os(PROGRAM) {
            Some(program) => {
                let mut command = Command::new(program);
                command
                    .args(["serve", "--listen", "127.0.0.1:0", "--policies"])
                    .arg(folder.path())
                    .env("COUNTERSIGN_SERVER__THREADS", "1")
                    .env("COUNTERSIGN_APPROVALS__PATH", state.path().join("a.sqlite"))
                    .env("COUNTERSIGN_AUDIT__PATH", state.path().join("audit"))
                    .env("COUNTERSIGN_AUDIT__HEADS", state.path().join("heads.txt"));
                command
            }
            None => {
                let mut command = this_program();
                command
                    .args(["--child", "countersign"])
                    .arg(folder.path())
                    .arg(state.path());
                command
            }
        };
        Self::spawn(&mut command, Some(state), Some(folder))
    }

    fn spawn(command: &mut Command, state: Option<TempDir>, policies: Option<TempDir>) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("text");
        // The program announces itself as JSON, the children of this bench by their address alone.
        let address = first
            .split('"')
            .find_map(|part| part.parse().ok())
            .expect("an address");
        Self {
            child,
            address,
            _lines: lines,
            _state: state,
            _policies: policies,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// User and system time.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.id())
    }

    pub fn memory_mb(&self) -> f64 {
        memory_mb(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program"))
}

/// User and system time of a process, from `/proc`.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
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

/// Resident memory of a process; nothing once it has ended.
pub fn memory_mb(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}

/// A process's memory over a while.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub before: f64,
    pub peak: f64,
    pub after: f64,
}

/// Does `work`, and tells how the memory of `process` went, with a second for it to come down again.
pub fn watching_memory<T>(process: u32, work: impl FnOnce() -> T) -> (T, Memory) {
    let before = memory_mb(process);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || {
        let mut peak: f64 = 0.0;
        while stopped.recv_timeout(Duration::from_millis(50))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            peak = peak.max(memory_mb(process));
        }
        peak
    });
    let result = work();
    drop(stop);
    let peak = watcher.join().expect("the watcher ends").max(before);
    let settled = Instant::now() + Duration::from_secs(1);
    std::thread::sleep(settled.saturating_duration_since(Instant::now()));
    let after = memory_mb(process);
    let memory = Memory {
        before,
        peak,
        after,
    };
    (result, memory)
}

/// A folder of policies, which is removed with this value.
fn policy_dir(policies: usize, entities: usize) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in workload::files(Shape::Mixed, policies, entities) {
        let path = folder.path().join(file.path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, file.bytes).expect("a file");
    }
    folder
}
