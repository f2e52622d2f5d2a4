//! How fast a log folder is. Run by hand, in release: `cargo test --release --test log_folder -- --ignored --nocapture speed`.

use std::fs;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use countersign::audit::proof::{consistency_proof, inclusion_proof};
use countersign::audit::tree::{Frontier, leaf_hash};
use countersign::storage::log_folder::{
    Extent, FolderReader, FolderSettings, FolderWriter, recover,
};

use crate::logs::{KEYS, NOW};

const RECORDS: u64 = 1_000_000;
const ROUND: usize = 500;

/// What this thread has computed for so far; waiting for the disk does not count.
fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Some 280 bytes like a decision's: texts that come again and again, and three ids of 16 random bytes.
fn decision(index: u64) -> Vec<u8> {
    let random = leaf_hash(&index.to_le_bytes());
    let trace = leaf_hash(random.as_bytes());
    let number = usize::from(random.as_bytes()[20]);
    let actions = [
        "refund",
        "transfer",
        "delete_customer",
        "read_invoice",
        "send_email",
    ];
    let mut bytes = vec![10, 16];
    bytes.extend_from_slice(random.as_bytes());
    bytes.extend_from_slice(&trace.as_bytes()[..16]);
    bytes.extend_from_slice(&(1_760_000_000_000_u64 + index * 7).to_le_bytes());
    let action = actions[number % 5];
    let outcome = if number.is_multiple_of(7) {
        "REQUIRE_APPROVAL"
    } else {
        "ALLOW"
    };
    let text = format!(
        "spiffe://example.org/ns/agents/sa/billing-{}|Agent::\"billing-agent-{}\"|Action::\"{action}\"|Account::\"acct-{:04}\"|\
         {outcome}|policy payments.{action}.limits,payments.{action}.owner|bundle 7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1f|\
         evaluated in {} us",
        number % 4,
        number % 16,
        number * 13,
        number % 90 + 10,
    );
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[expect(
    clippy::print_stdout,
    reason = "figures are for whoever asked for them"
)]
fn report(what: &str, wall: Duration, used: Duration) {
    let records = f64::from(u32::try_from(RECORDS).unwrap());
    let per_record = used.as_secs_f64() * 1e9 / records;
    println!(
        "{what}: {per_record:.0} ns of CPU a record, {:.0} records a second",
        records / wall.as_secs_f64()
    );
}

#[test]
#[ignore = "takes a while and says nothing in debug"]
#[expect(clippy::disallowed_methods, reason = "this is about real time")]
fn speed() {
    let records: Vec<Vec<u8>> = (0..RECORDS).map(decision).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!("{} bytes a record on average", bytes / records.len());
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("log");
    let mut writer = FolderWriter::create(&folder, KEYS, FolderSettings::default()).unwrap();
    let (start, used) = (Instant::now(), cpu());
    for round in records.chunks(ROUND) {
        writer
            .append_round(round.iter().map(Vec::as_slice), NOW)
            .unwrap();
    }
    report(
        "append_round, with syncs",
        start.elapsed(),
        cpu().saturating_sub(used),
    );
    println!("{} bytes stored, {:.1} a record", writer.stored_bytes(), {
        f64::from(u32::try_from(writer.stored_bytes()).unwrap())
            / f64::from(u32::try_from(RECORDS).unwrap())
    });

    let reader = FolderReader::open(&folder).unwrap();
    let (start, used) = (Instant::now(), cpu());
    let mut read = 0;
    let shown = reader.for_each_bundle(0, RECORDS, |_, records| {
        read += records.len();
        ControlFlow::<()>::Continue(())
    });
    assert!(shown.unwrap().is_continue());
    report(
        "for_each_bundle",
        start.elapsed(),
        cpu().saturating_sub(used),
    );
    assert_eq!(read, records.len());

    let (start, used) = (Instant::now(), cpu());
    let mut frontier = Frontier::new();
    let shown = reader.for_each_bundle(0, RECORDS, |_, records| {
        for record in records {
            frontier.push(leaf_hash(record));
        }
        ControlFlow::<()>::Continue(())
    });
    assert!(shown.unwrap().is_continue());
    report(
        "for_each_bundle, leaf_hash and Frontier",
        start.elapsed(),
        cpu().saturating_sub(used),
    );
    assert_eq!(frontier.root(), writer.root().unwrap());

    for extent in [Extent::Everything, Extent::LastSegment] {
        let (start, used) = (Instant::now(), cpu());
        assert_eq!(recover(&folder, extent).unwrap().root, frontier.root());
        report(
            &format!("recover {extent:?}"),
            start.elapsed(),
            cpu().saturating_sub(used),
        );
    }
    let start = Instant::now();
    for index in (0..RECORDS).step_by(9_973) {
        inclusion_proof(&reader, index, RECORDS).unwrap();
    }
    println!("{:?} an inclusion proof", start.elapsed() / 101);
    let start = Instant::now();
    for index in (1..RECORDS).step_by(9_973) {
        consistency_proof(&reader, index, RECORDS).unwrap();
    }
    println!("{:?} a consistency proof", start.elapsed() / 101);
}
