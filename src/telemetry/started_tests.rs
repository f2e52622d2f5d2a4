//! What Prometheus reads, and how telemetry ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::TcpListener;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::model::{Decision, TraceContext};
use crate::usecase::observing::{
    ApprovalSigns, AuditSigns, CallSeen, ConnectionRefusal, DecisionSeen, DecisionSource,
    PolicySigns, RefusalKind, VitalSigns,
};

use super::*;

/// Every series with the names of its labels. Alerts, dashboards and other people's queries rest on these.
const SERIES: &str = "\
countersign_approval_resolution_seconds histogram result
countersign_approvals gauge status
countersign_approvals_oldest_pending_timestamp_seconds gauge
countersign_audit_accepted_total counter
countersign_audit_logged_total counter
countersign_audit_lost_total counter
countersign_audit_sealed gauge
countersign_audit_time_to_durable_seconds gauge
countersign_audit_writable gauge
countersign_build_info gauge version
countersign_cache_entries gauge
countersign_cache_size_bytes gauge
countersign_calls_refused_total counter reason
countersign_certificate_expiry_timestamp_seconds gauge
countersign_connections gauge transport
countersign_connections_refused_total counter reason
countersign_decision_duration_seconds histogram outcome,source
countersign_deliveries_total counter channel,result
countersign_outbox_oldest_undelivered_timestamp_seconds gauge
countersign_outbox_undelivered gauge
countersign_policies gauge kind
countersign_policy_index_distrusted gauge
countersign_policy_info gauge policy_version
countersign_policy_last_good_load_timestamp_seconds gauge
countersign_policy_last_load_rejected gauge
countersign_policy_loads_total counter result
countersign_signing_key_fetch_failures_total counter issuer
countersign_signing_keys_fetched_timestamp_seconds gauge issuer
countersign_waiting_calls gauge
rpc_server_call_duration_seconds histogram error_type,rpc_method,rpc_response_status_code,rpc_system_name
";

#[derive(Debug)]
struct AtNoon;

impl Clock for AtNoon {
    fn now(&self) -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }
}

/// A server with something to show of everything.
#[derive(Debug)]
struct Busy;

impl Vitals for Busy {
    fn read(&self) -> VitalSigns {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        VitalSigns {
            is_serving: true,
            is_stopping: false,
            policies: Some(PolicySigns {
                version: "abc".to_owned(),
                permits: 3,
                forbids: 2,
                gates: 1,
                is_index_distrusted: true,
            }),
            loads_activated: 4,
            loads_unchanged: 5,
            loads_rejected: 6,
            is_last_load_rejected: true,
            last_good_load: at(1000),
            cache_bytes: 7,
            cache_entries: 8,
            approvals: Some(ApprovalSigns {
                pending: 9,
                approved: 10,
                oldest_pending: at(1001),
                undelivered: 11,
                oldest_undelivered: at(1002),
            }),
            audit: Some(AuditSigns {
                accepted: 12,
                logged: 13,
                lost: 14,
                time_to_durable: Duration::from_millis(1500),
                is_writable: true,
                is_sealed: false,
            }),
            connections: vec![("tcp", 15), ("unix", 16)],
            waiting_calls: 17,
            certificate_expires: at(1003),
            signing_keys: vec![
                ("https://a".to_owned(), at(1004), 18),
                ("https://b".to_owned(), None, 19),
            ],
        }
    }
}

fn started(runtime: &Runtime, variables: &[(&str, &str)]) -> Telemetry {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: BTreeMap<_, _> = variables.iter().map(owned).collect();
    let environment = OtelEnvironment::of(&variables).unwrap();
    let settings = TelemetrySettings::new("one".to_owned());
    Telemetry::start(&settings, &environment, Arc::new(AtNoon), runtime.handle()).unwrap()
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

fn see_everything(observer: &dyn Observer) {
    observer.decided(&decision());
    observer.called(&call("OK"));
    observer.called(&call("UNAVAILABLE"));
    observer.refused(RefusalKind::NotBound);
    observer.connection_refused(ConnectionRefusal::Handshake);
    observer.resolved("approved", Duration::from_secs(70));
    observer.told("webhook", true);
    observer.told("webhook", false);
}

fn decision() -> DecisionSeen<'static> {
    DecisionSeen {
        decision: Decision::Allow,
        deny_reason: None,
        source: DecisionSource::Cache,
        decision_id: Uuid::from_bytes([7; 16]),
        policy_version: "abc",
        evaluation_us: 0,
        approval_id: None,
        opened_by: None,
        took: Duration::from_micros(15),
        trace: Some(TraceContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            is_sampled: true,
        }),
        is_item: false,
    }
}

fn call(status: &'static str) -> CallSeen<'static> {
    CallSeen {
        method: "countersign.v1.AuthorizationService/Authorize",
        status,
        error: None,
        took: Duration::from_micros(15),
        trace: None,
        has_decision_span: false,
    }
}

/// The scrape of a server with something to show of everything.
fn full_scrape() -> String {
    let runtime = runtime();
    let telemetry = started(&runtime, &[("OTEL_RESOURCE_ATTRIBUTES", "host.name=h")]);
    telemetry.watch(Arc::new(Busy));
    see_everything(&*telemetry.observer());
    telemetry.scrape().unwrap()
}

/// Name, kind and labels of each series in `scrape` but those of the process.
fn series(scrape: &str) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for line in scrape.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kinds.insert(name, kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            let name = histogram
                .filter(|name| kinds.contains_key(name))
                .unwrap_or(name);
            let pairs = rest.split_once('}').unwrap().0.split(',');
            let names = pairs.map(|pair| pair.split_once('=').unwrap().0);
            labels
                .entry(name)
                .or_default()
                .extend(names.filter(|name| *name != "le"));
        }
    }
    let mut text = String::new();
    for (name, kind) in kinds {
        if !name.starts_with("process_") && name != "target_info" {
            let names: Vec<&str> = labels
                .remove(name)
                .unwrap_or_default()
                .into_iter()
                .collect();
            let line = format!("{name} {kind} {}", names.join(","));
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
    }
    text
}

#[test]
fn every_metric_has_its_name_and_labels() {
    let scrape = full_scrape();
    assert_eq!(series(&scrape), SERIES, "{scrape}");
}

#[test]
fn every_metric_is_explained() {
    let scrape = full_scrape();
    for name in scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let name = name.split(' ').next().unwrap();
        let help = scrape
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| !help.trim().is_empty()), "{name}");
    }
}

#[test]
fn values_are_those_of_the_vital_signs() {
    let scrape = full_scrape();
    for line in [
        "countersign_policy_info{policy_version=\"abc\"} 1",
        "countersign_policies{kind=\"permit\"} 3",
        "countersign_policies{kind=\"forbid\"} 2",
        "countersign_policies{kind=\"gate\"} 1",
        "countersign_policy_loads_total{result=\"activated\"} 4",
        "countersign_policy_loads_total{result=\"unchanged\"} 5",
        "countersign_policy_loads_total{result=\"rejected\"} 6",
        "countersign_policy_last_load_rejected 1",
        "countersign_policy_last_good_load_timestamp_seconds 1000",
        "countersign_policy_index_distrusted 1",
        "countersign_cache_size_bytes 7",
        "countersign_cache_entries 8",
        "countersign_approvals{status=\"pending\"} 9",
        "countersign_approvals{status=\"approved\"} 10",
        "countersign_approvals_oldest_pending_timestamp_seconds 1001",
        "countersign_outbox_undelivered 11",
        "countersign_outbox_oldest_undelivered_timestamp_seconds 1002",
        "countersign_audit_accepted_total 12",
        "countersign_audit_logged_total 13",
        "countersign_audit_lost_total 14",
        "countersign_audit_time_to_durable_seconds 1.5",
        "countersign_audit_writable 1",
        "countersign_audit_sealed 0",
        "countersign_connections{transport=\"tcp\"} 15",
        "countersign_connections{transport=\"unix\"} 16",
        "countersign_waiting_calls 17",
        "countersign_certificate_expiry_timestamp_seconds 1003",
        "countersign_signing_keys_fetched_timestamp_seconds{issuer=\"https://a\"} 1004",
        "countersign_signing_key_fetch_failures_total{issuer=\"https://a\"} 18",
        "countersign_signing_key_fetch_failures_total{issuer=\"https://b\"} 19",
        "countersign_calls_refused_total{reason=\"not_bound\"} 1",
        "countersign_calls_refused_total{reason=\"overloaded\"} 0",
        "countersign_connections_refused_total{reason=\"handshake\"} 1",
        "countersign_connections_refused_total{reason=\"too_many\"} 0",
        "countersign_deliveries_total{channel=\"webhook\",result=\"delivered\"} 1",
        "countersign_deliveries_total{channel=\"webhook\",result=\"failed\"} 1",
    ] {
        assert!(
            scrape.lines().any(|other| other == line),
            "{line}\n{scrape}"
        );
    }
    assert!(scrape.contains("process_resident_memory_bytes "));
}

#[test]
fn what_is_not_there_is_absent() {
    #[derive(Debug)]
    struct Idle;
    impl Vitals for Idle {
        fn read(&self) -> VitalSigns {
            VitalSigns::default()
        }
    }
    let runtime = runtime();
    let telemetry = started(&runtime, &[]);
    telemetry.watch(Arc::new(Idle));
    let scrape = telemetry.scrape().unwrap();
    for name in [
        "approvals",
        "audit",
        "outbox",
        "certificate",
        "policies",
        "policy_info",
    ] {
        assert!(!scrape.contains(&format!("countersign_{name}")), "{name}");
    }
    assert!(!scrape.contains("timestamp_seconds"));
    assert!(scrape.contains("countersign_waiting_calls 0"));
}

#[test]
fn times_fall_into_their_buckets() {
    let scrape = full_scrape();
    let bucket = |series: &str, le: &str, count: u32| {
        let line = format!("{series},le=\"{le}\"}} {count}");
        assert!(scrape.contains(&line), "{line}\n{scrape}");
    };
    let decisions =
        "countersign_decision_duration_seconds_bucket{outcome=\"allow\",source=\"cache\"";
    bucket(decisions, "0.00001", 0);
    bucket(decisions, "0.00002", 1);
    bucket(decisions, "10", 1);
    bucket(decisions, "+Inf", 1);
    let approvals = "countersign_approval_resolution_seconds_bucket{result=\"approved\"";
    bucket(approvals, "60", 0);
    bucket(approvals, "300", 1);
    bucket(approvals, "604800", 1);
}

#[test]
fn a_call_that_did_not_fail_has_no_error_type() {
    let scrape = full_scrape();
    let ok = "rpc_server_call_duration_seconds_count{\
        rpc_method=\"countersign.v1.AuthorizationService/Authorize\",\
        rpc_response_status_code=\"OK\",rpc_system_name=\"grpc\"} 1";
    assert!(scrape.contains(ok), "{scrape}");
    assert!(scrape.contains("{error_type=\"UNAVAILABLE\",rpc_method="));
}

#[test]
fn the_server_says_who_it_is() {
    let scrape = full_scrape();
    let target = scrape.lines().find(|line| line.starts_with("target_info{"));
    let target = target.unwrap();
    for label in [
        "service_name=\"countersign\"",
        "service_instance_id=\"one\"",
        "service_version=\"",
        "host_name=\"h\"",
    ] {
        assert!(target.contains(label), "{target}");
    }
}

#[test]
fn a_disabled_sdk_offers_nothing() {
    let runtime = runtime();
    let telemetry = started(&runtime, &[("OTEL_SDK_DISABLED", "true")]);
    see_everything(&*telemetry.observer());
    assert!(!telemetry.is_scraped());
    assert!(matches!(
        telemetry.scrape(),
        Err(TelemetryError::NotOffered)
    ));
}

#[test]
fn a_missing_authority_is_named() {
    let runtime = runtime();
    let variables = BTreeMap::from([
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            "https://c".to_owned(),
        ),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned(),
            "/none.pem".to_owned(),
        ),
    ]);
    let environment = OtelEnvironment::of(&variables).unwrap();
    let settings = TelemetrySettings::new("one".to_owned());
    let clock = Arc::new(AtNoon);
    let error = Telemetry::start(&settings, &environment, clock, runtime.handle()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`OTEL_EXPORTER_OTLP_CERTIFICATE`: cannot read `/none.pem`"
    );
}

/// How long telemetry takes to stop when `address` is the collector's and there is something to send.
fn stopping(address: &str) -> Duration {
    let runtime = runtime();
    let telemetry = started(&runtime, &[("OTEL_EXPORTER_OTLP_ENDPOINT", address)]);
    see_everything(&*telemetry.observer());
    let begun = Instant::now();
    telemetry.stop();
    telemetry.stop();
    begun.elapsed()
}

#[test]
fn a_collector_that_is_gone_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(stopping(&address) < Duration::from_secs(2));
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up_for_long() {
    // Connections are accepted by the system, and nobody ever reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    assert!(stopping(&address) < Duration::from_millis(2500));
}
