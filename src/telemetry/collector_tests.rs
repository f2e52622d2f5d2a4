//! What is said of a collector that fails.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use opentelemetry_sdk::error::OTelSdkError;

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that are logged for these results, one after another.
fn lines(results: &[bool]) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let reported = Reported::of("traces", Ok(())).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for is_good in results {
            let failure = OTelSdkError::InternalFailure("gone".to_owned());
            reported.report(&is_good.then_some(()).ok_or(failure));
        }
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_failing_collector_is_reported_once_and_so_is_its_return() {
    let lines = lines(&[true, false, false, true, true]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains("gone"));
    assert!(lines[1].starts_with("INFO"));
}

#[test]
fn a_collector_that_takes_everything_is_not_mentioned() {
    assert!(lines(&[true, true]).is_empty());
}
