//! How many votes a second the stores keep, each durable before it is answered.
//!
//! `cargo bench --bench votes`; with `PostgreSQL` as well: `bash tests/postgres.sh run --fsync on -- cargo bench --bench votes`.
//! The floor, in the same run and on the same disk, is `SQLite` itself: one small row for each commit, and 64 rows for each commit.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    dead_code,
    reason = "a bench stops at the unexpected, prints what it measures, and shares the builders of the stores' tests"
)]

#[path = "../tests/stores/support.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::approval::Approval;
use countersign::storage::postgres::{PostgresConfig, PostgresStore};
use countersign::storage::sqlite::SqliteStore;
use support::{Store, ask, done, yes};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VOTERS: usize = 64;
const VOTES_EACH: usize = 100;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // In the target directory and not in /tmp, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("{:<44} {:>9} {:>9} {:>9}", "", "per s", "p50 ms", "p99 ms");
    for rows in [1, VOTERS] {
        floor(&folder.path().join(format!("floor{rows}.db")), rows);
    }
    runtime.block_on(async {
        let path = folder.path().join("approvals.db");
        let store: Store = Arc::new(SqliteStore::open(&path).unwrap());
        votes("SQLite, group commit: votes", store).await;
        if let Some(url) = postgres() {
            let config = PostgresConfig::new(url);
            let handle = tokio::runtime::Handle::current();
            let store = PostgresStore::connect(&config, handle).await.unwrap();
            votes("PostgreSQL: votes", Arc::new(store)).await;
        }
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts the server tells by the environment"
)]
fn postgres() -> Option<String> {
    std::env::var("COUNTERSIGN_TEST_POSTGRES").ok()
}

/// Commits of `rows` rows each, for two seconds.
fn floor(path: &Path, rows: usize) {
    let mut connection = rusqlite::Connection::open(path).unwrap();
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    connection
        .pragma_update(None, "synchronous", "FULL")
        .unwrap();
    connection
        .execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY, body TEXT)")
        .unwrap();
    let body = "x".repeat(300);
    let mut milliseconds = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let begun = Instant::now();
        let transaction = connection.transaction().unwrap();
        for _ in 0..rows {
            transaction
                .execute("INSERT INTO t (body) VALUES (?1)", [&body])
                .unwrap();
        }
        transaction.commit().unwrap();
        milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let name = format!("floor: SQLite, {rows} row(s) for each commit: rows");
    report(
        &name,
        milliseconds.len() * rows,
        start.elapsed(),
        milliseconds,
    );
}

/// Every voter votes on approvals of their own, one vote after the other, all voters at once.
async fn votes(name: &str, store: Store) {
    let mut openers = JoinSet::new();
    for voter in 0..VOTERS {
        openers.spawn(opened(store.clone(), voter));
    }
    let ready = Arc::new(Barrier::new(VOTERS));
    let mut voters = JoinSet::new();
    for (voter, approvals) in openers.join_all().await {
        voters.spawn(voted(store.clone(), voter, approvals, Arc::clone(&ready)));
    }
    let timings = voters.join_all().await;
    let start = timings.iter().map(|(start, _)| *start).min().unwrap();
    let milliseconds: Vec<f64> = timings.into_iter().flat_map(|(_, each)| each).collect();
    report(name, milliseconds.len(), start.elapsed(), milliseconds);
}

async fn opened(store: Store, voter: usize) -> (usize, Vec<Approval>) {
    let mut approvals = Vec::new();
    for n in 0..VOTES_EACH {
        let ask = ask(&format!("{voter}-{n}"))
            .principal(&format!("bot-{voter}"))
            .quorum(2);
        approvals.push(ask.open(&store, 0).await);
    }
    (voter, approvals)
}

async fn voted(
    store: Store,
    voter: usize,
    approvals: Vec<Approval>,
    ready: Arc<Barrier>,
) -> (Instant, Vec<f64>) {
    ready.wait().await;
    let start = Instant::now();
    let mut milliseconds = Vec::new();
    for approval in approvals {
        let begun = Instant::now();
        done(&store, yes(&approval, &format!("voter {voter}")), 1).await;
        milliseconds.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    (start, milliseconds)
}

fn report(name: &str, count: usize, took: Duration, mut milliseconds: Vec<f64>) {
    milliseconds.sort_by(f64::total_cmp);
    let quantile = |percent: usize| milliseconds[(milliseconds.len() - 1) * percent / 100];
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "{name:<44} {rate:>9.0} {:>9.2} {:>9.2}",
        quantile(50),
        quantile(99)
    );
}
