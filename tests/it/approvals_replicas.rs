//! Two servers over one database of `PostgreSQL`: `bash tests/postgres.sh run -- cargo nextest run`.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign::channel::Hidden;
use countersign::config::StoreChoice;
use countersign::grpc::proto::{
    ApprovalStatus, AuthorizeRequest, Decision, ListApprovalsRequest, VoteChoice, VoteRequest,
};
use countersign::storage::audit_keys::AuditKeys;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use crate::approvals_support::{
    ballot, by, deny_reason, deployment, impatient, redeeming, start_in_prod, with_key,
};
use crate::folder::Folder;
use crate::harness::{Pdp, wait_until};
use crate::program::countersign;
use crate::requests::{Change, text};

/// A database that is dropped with this value, whoever is connected to it.
struct Database {
    runtime: Runtime,
    server: String,
    name: String,
    /// The keys that all replicas sign the control log with.
    keys: TempDir,
}

impl Database {
    /// An empty database; none if no server was started for tests.
    #[expect(clippy::print_stderr, reason = "what is left out is left out loudly")]
    fn create() -> Option<Self> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        #[expect(
            clippy::disallowed_methods,
            reason = "the script that starts the server tells by the environment"
        )]
        let told = |name: &str| std::env::var(name).ok();
        let Some(server) = told("COUNTERSIGN_TEST_POSTGRES") else {
            // What must be tested everywhere is not left out by mistake.
            assert!(
                told("COUNTERSIGN_TEST_POSTGRES_REQUIRED").is_none(),
                "there is no PostgreSQL"
            );
            eprintln!(
                "Replicas are NOT TESTED: start PostgreSQL by `tests/postgres.sh run -- <command>`"
            );
            return None;
        };
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let created = Self {
            runtime: Runtime::new().unwrap(),
            server,
            name: format!("replicas_{}_{number}", std::process::id()),
            keys: tempfile::tempdir().unwrap(),
        };
        created.administer(&format!(
            "CREATE DATABASE {} TEMPLATE template0",
            created.name
        ));
        Some(created)
    }

    fn administer(&self, sql: &str) {
        let client = self.connect(&self.server);
        self.runtime.block_on(client.batch_execute(sql)).unwrap();
    }

    fn connect(&self, url: &str) -> Client {
        let (client, connection) = self
            .runtime
            .block_on(tokio_postgres::connect(url, NoTls))
            .unwrap();
        drop(self.runtime.spawn(connection));
        client
    }

    fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    /// A server over it, with a copy of the sample policies.
    fn serve(&self) -> Pdp {
        self.serve_from(Folder::sample())
    }

    fn serve_from(&self, folder: Folder) -> Pdp {
        let keys = folder.beside("audit/keys");
        if !keys.exists() {
            AuditKeys::read_or_make(self.keys.path(), Some("replicas"), false).unwrap();
            fs::create_dir_all(&keys).unwrap();
            for name in ["control.key", "redaction.key"] {
                fs::copy(self.keys.path().join(name), keys.join(name)).unwrap();
            }
        }
        Pdp::try_keep(folder, |config| {
            config.approvals.store = StoreChoice::Postgres;
            config.approvals.url = Some(Hidden::from(self.url()));
            // The server for tests does not wait for the disk.
            config.approvals.allow_unsafe_settings = true;
        })
        .unwrap()
    }

    fn one_number(&self, sql: &str) -> i64 {
        let client = self.connect(&self.url());
        let row = self.runtime.block_on(client.query_one(sql, &[])).unwrap();
        row.get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let (client, connection) = self
            .runtime
            .block_on(tokio_postgres::connect(&self.server, NoTls))
            .unwrap();
        drop(self.runtime.spawn(connection));
        drop(self.runtime.block_on(client.batch_execute(&sql)));
    }
}

#[test]
fn what_is_voted_on_one_is_seen_and_redeemed_on_the_other() {
    let Some(database) = Database::create() else {
        return;
    };
    let (one, other) = (database.serve(), database.serve());
    let opened = one.open(deployment());
    assert_eq!(other.open(deployment()).id, opened.id);
    let mut seen_on_other = other.watch(&opened.id, 0);
    let mut version = other.wait(seen_on_other.next()).unwrap().unwrap().version;
    // Fast, by what the database tells; the look once a second is what it must never be slower than.
    let mut slowest = Duration::ZERO;
    for (server, name) in [(&one, "yuki"), (&one, "sam")] {
        let voted = server.approve(name, &opened);
        let start = Instant::now();
        while version < voted.version {
            version = other.wait(seen_on_other.next()).unwrap().unwrap().version;
        }
        slowest = slowest.max(start.elapsed());
    }
    println!("a vote on one server was seen on the other after {slowest:?}");
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
    let allowed = other.redeem(&opened, with_key("k", deployment()));
    assert_eq!(allowed.decision(), Decision::Allow);
    let again = one.redeem(&opened, with_key("k", deployment()));
    assert_eq!(
        (again.decision(), &again.decision_id),
        (Decision::Allow, &allowed.decision_id)
    );
    let denied = one.redeem(&opened, with_key("l", deployment()));
    assert_eq!(
        deny_reason(&denied),
        (Decision::Deny, "DENY_REASON_APPROVAL_REDEEMED")
    );
}

#[test]
fn of_all_who_race_for_a_grant_on_both_one_gets_it() {
    let Some(database) = Database::create() else {
        return;
    };
    let servers = [database.serve(), database.serve()];
    for round in 1..=5 {
        let opened = servers[0].open(start_in_prod(round));
        servers[1].approve("fiona", &opened);
        let calls: Vec<_> = (0..32)
            .map(|number| {
                let server = &servers[number % 2];
                let mut client = server.client();
                let key = format!("{round}-{number}");
                let request: AuthorizeRequest =
                    redeeming(&opened, with_key(&key, start_in_prod(round)));
                server
                    .runtime
                    .spawn(async move { client.authorize(request).await })
            })
            .collect();
        let mut allowed = Vec::new();
        for call in calls {
            // Nobody who lost is told more than that: DENY, or that others were quicker.
            match servers[0].wait(call).unwrap() {
                Ok(response) => {
                    let response = response.into_inner();
                    match response.decision() {
                        Decision::Allow => allowed.push(response.decision_id),
                        Decision::Deny => {
                            assert_eq!(deny_reason(&response).1, "DENY_REASON_APPROVAL_REDEEMED");
                        }
                        Decision::RequireApproval | Decision::Unspecified => {
                            panic!("{response:?}")
                        }
                    }
                }
                Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}"),
            }
        }
        assert_eq!(allowed.len(), 1, "round {round}: {allowed:?}");
        for server in &servers {
            let kept = server.get(&opened.id).unwrap();
            assert_eq!(kept.status(), ApprovalStatus::Redeemed);
            assert_eq!(kept.redemption.unwrap().decision_id, allowed[0]);
        }
    }
}

#[test]
fn those_who_ask_on_both_at_once_wait_for_one_approval() {
    let Some(database) = Database::create() else {
        return;
    };
    let servers = [database.serve(), database.serve()];
    let calls: Vec<_> = (0..32)
        .map(|number: usize| {
            let server = &servers[number % 2];
            let mut client = server.client();
            server
                .runtime
                .spawn(async move { client.authorize(deployment()).await })
        })
        .collect();
    let mut ids: Vec<String> = calls
        .into_iter()
        .map(|call| {
            let response = servers[0].wait(call).unwrap().unwrap().into_inner();
            response.approval.unwrap().id
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn what_no_database_text_can_hold_is_kept_or_refused_like_anywhere() {
    let Some(database) = Database::create() else {
        return;
    };
    let servers = [database.serve(), Pdp::keeping()];
    let answers = servers.each_ref().map(|server| {
        let nul = "a\u{0}b";
        let missing = server.get(nul).unwrap_err();
        let asked = AuthorizeRequest {
            justification: format!("Because {nul}."),
            request_id: nul.to_owned(),
            ..deployment()
        };
        let opened = server.authorize(asked);
        let opened = opened.map_err(|refusal| (refusal.code, refusal.message));
        let listed = server.list(ListApprovalsRequest {
            requester: nul.to_owned(),
            rules: vec![nul.to_owned()],
            ..ListApprovalsRequest::default()
        });
        let listed = listed.map_err(|refusal| (refusal.code, refusal.message));
        let voted = server.approve("yuki", &server.open(another_deployment()));
        let commented = VoteRequest {
            comment: nul.to_owned(),
            request_id: nul.to_owned(),
            ..ballot(&voted, VoteChoice::Approve)
        };
        let commented = server.cast(by("sam", commented));
        let commented = commented.map_err(|refusal| (refusal.code, refusal.message));
        (
            (missing.code, missing.reason),
            opened.map(|response| response.decision()),
            listed.map(|response| response.approvals.len()),
            commented.map(|response| response.counted),
        )
    });
    let [postgres, sqlite] = answers;
    assert_eq!(postgres, sqlite);
    assert_eq!(
        sqlite.0,
        (tonic::Code::NotFound, "APPROVAL_NOT_FOUND".to_owned())
    );
}

/// Another deployment than the one that the same test asks for.
fn another_deployment() -> AuthorizeRequest {
    deployment().context("version", text("2.4.1"))
}

#[test]
fn time_passes_once_and_both_tell() {
    let Some(database) = Database::create() else {
        return;
    };
    let servers = [(), ()].map(|()| database.serve_from(impatient()));
    let opened = servers[0].open(start_in_prod(3));
    for server in &servers {
        let mut versions = server.watch(&opened.id, opened.version);
        let last = server.wait(versions.next()).unwrap().unwrap();
        assert_eq!(last.status(), ApprovalStatus::Expired);
        assert_eq!(last.version, opened.version + 1);
        assert_eq!(server.wait(versions.next()).unwrap(), None);
    }
}

#[test]
fn one_sweeps_and_the_other_takes_over() {
    let Some(database) = Database::create() else {
        return;
    };
    let one = database.serve();
    let leases = "SELECT count(*) FROM leases WHERE name = 'sweeper'";
    wait_until("somebody sweeps", || database.one_number(leases) == 1);
    let epoch = "SELECT epoch FROM leases WHERE name = 'sweeper'";
    let first = database.one_number(epoch);
    let other = database.serve();
    // Long enough for several sweeps of each.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(database.one_number(epoch), first);
    drop(one.into_folder());
    let start = Instant::now();
    wait_until("the other sweeps", || database.one_number(epoch) > first);
    println!("the other server swept after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(18));
    drop(other);
}

#[test]
fn the_logs_of_all_replicas_together_are_intact() {
    let Some(database) = Database::create() else {
        return;
    };
    let (mut one, mut other) = (database.serve(), database.serve());
    let opened = one.open(deployment());
    one.approve("yuki", &opened);
    other.approve("sam", &opened);
    let allowed = other.redeem(&opened, deployment());
    assert_eq!(allowed.decision(), Decision::Allow);
    let folders = [&one, &other].map(|server| server.folder.beside("audit"));
    let folders = folders.each_ref().map(|folder| folder.to_str().unwrap());
    one.stop().join().unwrap();
    other.stop().join().unwrap();
    // One of the two had the last word; its copy of the control log is the longer one.
    let url = database.url();
    let verify = ["audit", "verify", "--approvals", &url];
    countersign(&[&verify[..], &folders].concat()).expect(0, "2 stopped");
    // One alone knows of the other and has not its decisions.
    countersign(&[&verify[..], &folders[..1]].concat()).expect(2, "incomplete");
}

#[test]
fn a_replica_with_other_keys_does_not_start() {
    let Some(database) = Database::create() else {
        return;
    };
    let one = database.serve();
    wait_until("the log is signed", || {
        database.one_number("SELECT count(*) FROM control_checkpoints") > 0
    });
    let stranger = Pdp::try_keep(Folder::sample(), |config| {
        config.approvals.store = StoreChoice::Postgres;
        config.approvals.url = Some(Hidden::from(database.url()));
        config.approvals.allow_unsafe_settings = true;
    });
    let error = format!("{:?}", stranger.err().unwrap());
    assert!(error.contains("control.key"), "{error}");
    drop(one);
}

#[test]
fn keys_are_replaced_one_replica_after_the_other() {
    let Some(database) = Database::create() else {
        return;
    };
    let (one, other) = (database.serve(), database.serve());
    let keys = [&one, &other].map(|server| server.folder.beside("audit/keys"));
    AuditKeys::add(&keys[0]).unwrap();
    fs::copy(keys[0].join("control.key"), keys[1].join("control.key")).unwrap();
    // The one with the new key serves for a while beside the other, which knows the old key only and may hold the lease.
    let one = database.serve_from(one.into_folder());
    let opened = one.open(deployment());
    std::thread::sleep(Duration::from_millis(2_500));
    let other = database.serve_from(other.into_folder());
    other.approve("yuki", &opened);
    std::thread::sleep(Duration::from_millis(1_500));
    let places = [one, other].map(Pdp::into_folder);
    let folders = places.each_ref().map(|folder| folder.beside("audit"));
    let folders = folders.each_ref().map(|folder| folder.to_str().unwrap());
    countersign(&["audit", "verify", folders[0], folders[1]]).expect(0, "4 stopped");
    let newest = AuditKeys::read(&keys[0]).unwrap().control.pop().unwrap();
    let newest = newest.verifier().to_string();
    countersign(&["audit", "verify", "--key", &newest, folders[0], folders[1]]).expect(0, "intact");
}
