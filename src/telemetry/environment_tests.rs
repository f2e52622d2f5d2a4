//! Variables, read.

use super::*;
use crate::telemetry::TelemetrySettings;
use crate::telemetry::settings::Plan;

fn read(variables: &[(&str, &str)]) -> Result<OtelEnvironment, TelemetryError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    OtelEnvironment::of(&variables.iter().map(owned).collect())
}

/// What is done with these variables and the usual settings: Prometheus, traces, metrics over OTLP.
fn plan(variables: &[(&str, &str)]) -> (bool, bool, bool) {
    let settings = TelemetrySettings::new("one".to_owned());
    let plan = Plan::of(&settings, &read(variables).unwrap()).unwrap();
    (plan.prometheus, plan.otlp_traces, plan.otlp_metrics)
}

fn sampler(variables: &[(&str, &str)]) -> (bool, f64) {
    let sampler = read(variables).unwrap().sampler(0.01);
    (sampler.follows_caller, sampler.ratio)
}

#[test]
fn exporters_are_chosen() {
    let address = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for (variables, expected) in [
        (vec![], (true, false, false)),
        (vec![(address, "")], (true, false, false)),
        (vec![(address, "http://c:4317")], (true, true, true)),
        (
            vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c")],
            (true, true, false),
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://c")],
            (true, false, true),
        ),
        (vec![("OTEL_TRACES_EXPORTER", "otlp")], (true, true, false)),
        (
            vec![(address, "http://c"), ("OTEL_TRACES_EXPORTER", "none")],
            (true, false, true),
        ),
        (
            vec![("OTEL_METRICS_EXPORTER", "otlp")],
            (false, false, true),
        ),
        (
            vec![("OTEL_METRICS_EXPORTER", "otlp,prometheus")],
            (true, false, true),
        ),
        (
            vec![(address, "http://c"), ("OTEL_METRICS_EXPORTER", "none")],
            (false, true, false),
        ),
        (
            vec![(address, "http://c"), ("OTEL_SDK_DISABLED", "TRUE")],
            (false, false, false),
        ),
        (vec![("OTEL_SDK_DISABLED", "false")], (true, false, false)),
    ] {
        assert_eq!(plan(&variables), expected, "{variables:?}");
    }
}

#[test]
fn the_configuration_counts_where_the_environment_is_silent() {
    let settings = TelemetrySettings {
        prometheus: false,
        traces: ExporterChoice::Otlp,
        metrics: ExporterChoice::None,
        sample_ratio: 0.5,
        service_instance: "one".to_owned(),
    };
    let silent = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")]).unwrap();
    let plan = Plan::of(&settings, &silent).unwrap();
    assert_eq!(
        (plan.prometheus, plan.otlp_traces, plan.otlp_metrics),
        (false, true, false)
    );
    assert!((plan.sampler.ratio - 0.5).abs() < f64::EPSILON);
    let loud = read(&[
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ]);
    let plan = Plan::of(&settings, &loud.unwrap()).unwrap();
    assert_eq!(
        (plan.prometheus, plan.otlp_traces, plan.otlp_metrics),
        (true, false, false)
    );
    for sample_ratio in [-0.1, 1.1, f64::NAN] {
        let settings = TelemetrySettings {
            sample_ratio,
            ..settings.clone()
        };
        Plan::of(&settings, &silent).unwrap_err();
    }
}

#[test]
fn samplers_are_named() {
    let name = "OTEL_TRACES_SAMPLER";
    let argument = ("OTEL_TRACES_SAMPLER_ARG", "0.25");
    for (variables, expected) in [
        (vec![], (true, 0.01)),
        (vec![argument], (true, 0.25)),
        (vec![(name, "always_on"), argument], (false, 1.0)),
        (vec![(name, "always_off")], (false, 0.0)),
        (vec![(name, "traceidratio"), argument], (false, 0.25)),
        (vec![(name, "traceidratio")], (false, 0.01)),
        (vec![(name, "parentbased_always_on")], (true, 1.0)),
        (vec![(name, "parentbased_always_off")], (true, 0.0)),
        (
            vec![(name, "parentbased_traceidratio"), argument],
            (true, 0.25),
        ),
    ] {
        assert_eq!(sampler(&variables), expected, "{variables:?}");
    }
}

#[test]
fn propagators_are_known() {
    let reads =
        |text: &str| read(&[("OTEL_PROPAGATORS", text)]).map(|read| read.reads_trace_context);
    for (text, expected) in [
        ("", true),
        ("tracecontext", true),
        ("tracecontext, baggage", true),
        ("tracecontext,b3", true),
        ("b3", false),
        ("baggage", false),
        ("none", false),
    ] {
        assert_eq!(reads(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn the_service_is_named_by_its_own_variable_first() {
    let attributes = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=a,deployment.environment.name=prod",
    );
    let named = read(&[attributes]).unwrap();
    assert_eq!(named.service_name.as_deref(), Some("a"));
    let named = read(&[attributes, ("OTEL_SERVICE_NAME", "b")]).unwrap();
    assert_eq!(named.service_name.as_deref(), Some("b"));
    assert_eq!(named.resource.len(), 2);
}

#[test]
fn the_files_of_a_signal_come_before_those_of_all() {
    let read = read(&[
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/all.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/metrics.pem"),
    ])
    .unwrap();
    let error = |collector: CollectorSettings| {
        let authority = collector.authority.unwrap();
        authority.read().unwrap_err().to_string()
    };
    assert_eq!(
        error(read.traces_collector),
        "`OTEL_EXPORTER_OTLP_CERTIFICATE`: cannot read `/all.pem`"
    );
    assert_eq!(
        error(read.metrics_collector),
        "`OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE`: cannot read `/metrics.pem`"
    );
}

#[test]
fn a_certificate_needs_its_key() {
    let certificate = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem");
    let key = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem");
    for (one, other) in [(certificate, key), (key, certificate)] {
        assert_eq!(
            read(&[one]).unwrap_err().to_string(),
            format!(
                "`{}` is set and `{}` is not; set both or none",
                one.0, other.0
            )
        );
    }
    let read = read(&[certificate, key]).unwrap();
    assert!(read.traces_collector.identity.is_some());
    assert_eq!(read.traces_collector, read.metrics_collector);
}

#[test]
fn a_bad_value_is_refused_with_the_name_of_its_variable() {
    for (variable, value) in [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_METRICS_EXPORTER", "otlp,console"),
        ("OTEL_METRICS_EXPORTER", "none,otlp"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unix:/run/c"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "/v1"),
    ] {
        let error = read(&[(variable, value)]).unwrap_err().to_string();
        let expected = format!("`{variable}`: `{value}` is not ");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    for address in ["https://me:s3cret@c", "me:s3cret@c:4317"] {
        let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", address)]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && !shown.contains("s3cret"));
    }
}

#[test]
fn headers_are_not_kept() {
    let read = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")]).unwrap();
    assert!(!format!("{read:?}").contains("s3cret"));
}
