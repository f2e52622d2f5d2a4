//! Instruments that are asked how the server stands.

use std::sync::Arc;

use jiff::Timestamp;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use crate::usecase::observing::{ApprovalSigns, AuditSigns, PolicySigns, VitalSigns};

use super::resource::VERSION;
use super::signs::Signs;

/// Where an instrument puts whole numbers.
type Counts<'a> = &'a dyn AsyncInstrument<u64>;
/// Where an instrument puts seconds.
type Seconds<'a> = &'a dyn AsyncInstrument<f64>;

/// Makes the instruments that show `signs`, and the one that shows the version.
pub(super) fn register(meter: &Meter, signs: &Arc<Signs>) {
    let shown = Shown { meter, signs };
    meter
        .u64_observable_gauge("countersign.build.info")
        .with_description("The version of the server, always 1.")
        .with_callback(|to| to.observe(1, &[KeyValue::new("version", VERSION)]))
        .build();
    policies(&shown);
    cache(&shown);
    approvals(&shown);
    audit(&shown);
    transport(&shown);
}

fn policies(shown: &Shown<'_>) {
    shown.gauge(
        "countersign.policy.info",
        "The version of the policies in force, always 1.",
        |signs, to| {
            if let Some(policies) = &signs.policies {
                let version = KeyValue::new("policy_version", policies.version.clone());
                to.observe(1, &[version]);
            }
        },
    );
    shown.gauge("countersign.policies", "Policies in force.", |signs, to| {
        if let Some(policies) = &signs.policies {
            for (kind, count) in kinds(policies) {
                to.observe(count, &[KeyValue::new("kind", kind)]);
            }
        }
    });
    shown.counter(
        "countersign.policy.loads",
        "Loads of policies, by what came of them.",
        |signs, to| {
            for (result, count) in [
                ("activated", signs.loads_activated),
                ("unchanged", signs.loads_unchanged),
                ("rejected", signs.loads_rejected),
            ] {
                to.observe(count, &[KeyValue::new("result", result)]);
            }
        },
    );
    shown.gauge(
        "countersign.policy.last_load_rejected",
        "Whether the last load was rejected, so that the policies in force are older than those on disk.",
        |signs, to| to.observe(u64::from(signs.is_last_load_rejected), &[]),
    );
    shown.moment(
        "countersign.policy.last_good_load.timestamp",
        "When policies were last read without a fault.",
        |signs| signs.last_good_load,
    );
    shown.gauge(
        "countersign.policy.index_distrusted",
        "Whether the index of policies was switched off because it disagreed with the full evaluation.",
        |signs, to| {
            if let Some(policies) = &signs.policies {
                to.observe(u64::from(policies.is_index_distrusted), &[]);
            }
        },
    );
}

fn kinds(policies: &PolicySigns) -> [(&'static str, u64); 3] {
    [
        ("permit", policies.permits),
        ("forbid", policies.forbids),
        ("gate", policies.gates),
    ]
}

fn cache(shown: &Shown<'_>) {
    shown.gauge(
        "countersign.cache.entries",
        "Decisions that are kept.",
        |signs, to| to.observe(signs.cache_entries, &[]),
    );
    let size = shown.meter.u64_observable_gauge("countersign.cache.size");
    let signs = Arc::clone(shown.signs);
    size.with_description("Memory of the decisions that are kept.")
        .with_unit("By")
        .with_callback(move |to| {
            if let Some(signs) = signs.read() {
                to.observe(signs.cache_bytes, &[]);
            }
        })
        .build();
}

fn approvals(shown: &Shown<'_>) {
    shown.gauge(
        "countersign.approvals",
        "Open approvals of the whole store: every replica reports the same.",
        |signs, to| {
            if let Some(approvals) = &signs.approvals {
                to.observe(approvals.pending, &[KeyValue::new("status", "pending")]);
                to.observe(approvals.approved, &[KeyValue::new("status", "approved")]);
            }
        },
    );
    shown.moment(
        "countersign.approvals.oldest_pending.timestamp",
        "When the oldest approval that waits for votes was opened; absent if there is none.",
        |signs| approval_signs(signs)?.oldest_pending,
    );
    shown.gauge(
        "countersign.outbox.undelivered",
        "Messages to people that are due and not delivered.",
        |signs, to| {
            if let Some(approvals) = &signs.approvals {
                to.observe(approvals.undelivered, &[]);
            }
        },
    );
    shown.moment(
        "countersign.outbox.oldest_undelivered.timestamp",
        "When the oldest message that is not delivered was due; absent if there is none.",
        |signs| approval_signs(signs)?.oldest_undelivered,
    );
}

fn approval_signs(signs: &VitalSigns) -> Option<&ApprovalSigns> {
    signs.approvals.as_ref()
}

fn audit(shown: &Shown<'_>) {
    shown.audit_counter(
        "countersign.audit.accepted",
        "Decisions that the log took, so that they may be answered.",
        |audit| audit.accepted,
    );
    shown.audit_counter(
        "countersign.audit.logged",
        "Decisions with a durable record.",
        |audit| audit.logged,
    );
    shown.audit_counter(
        "countersign.audit.lost",
        "Decisions that were answered and have no record.",
        |audit| audit.lost,
    );
    shown.seconds(
        "countersign.audit.time_to_durable",
        "How long the oldest record of the last round waited until it was durable.",
        |signs, to| {
            if let Some(audit) = &signs.audit {
                to.observe(audit.time_to_durable.as_secs_f64(), &[]);
            }
        },
    );
    shown.audit_gauge(
        "countersign.audit.writable",
        "Whether the log takes records.",
        |audit| u64::from(audit.is_writable),
    );
    shown.audit_gauge(
        "countersign.audit.sealed",
        "Whether all decisions are stopped because the log was changed from outside.",
        |audit| u64::from(audit.is_sealed),
    );
}

fn transport(shown: &Shown<'_>) {
    shown.gauge(
        "countersign.connections",
        "Open connections.",
        |signs, to| {
            for (transport, count) in &signs.connections {
                to.observe(*count, &[KeyValue::new("transport", *transport)]);
            }
        },
    );
    shown.gauge(
        "countersign.waiting_calls",
        "Calls that wait for their turn.",
        |signs, to| to.observe(signs.waiting_calls, &[]),
    );
    shown.moment(
        "countersign.certificate.expiry.timestamp",
        "When the server's certificate expires.",
        |signs| signs.certificate_expires,
    );
    shown.seconds(
        "countersign.signing_keys.fetched.timestamp",
        "When an issuer's signing keys were last fetched.",
        |signs, to| {
            for (issuer, fetched, _) in &signs.signing_keys {
                if let Some(fetched) = fetched {
                    to.observe(epoch_seconds(*fetched), &[issuer_label(issuer)]);
                }
            }
        },
    );
    shown.counter(
        "countersign.signing_key_fetch_failures",
        "How many times an issuer's signing keys could not be fetched.",
        |signs, to| {
            for (issuer, _, failures) in &signs.signing_keys {
                to.observe(*failures, &[issuer_label(issuer)]);
            }
        },
    );
}

/// Issuers are named in the configuration, so there are few.
fn issuer_label(issuer: &str) -> KeyValue {
    KeyValue::new("issuer", issuer.to_owned())
}

fn epoch_seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// Makes instruments that show the vital signs.
struct Shown<'a> {
    meter: &'a Meter,
    signs: &'a Arc<Signs>,
}

impl Shown<'_> {
    fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        show: impl Fn(&VitalSigns, Counts<'_>) + Send + Sync + 'static,
    ) {
        let signs = Arc::clone(self.signs);
        let gauge = self.meter.u64_observable_gauge(name).with_description(help);
        gauge
            .with_callback(move |to| {
                if let Some(signs) = signs.read() {
                    show(&signs, to);
                }
            })
            .build();
    }

    fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        show: impl Fn(&VitalSigns, Counts<'_>) + Send + Sync + 'static,
    ) {
        let signs = Arc::clone(self.signs);
        let counter = self.meter.u64_observable_counter(name);
        counter
            .with_description(help)
            .with_callback(move |to| {
                if let Some(signs) = signs.read() {
                    show(&signs, to);
                }
            })
            .build();
    }

    fn seconds(
        &self,
        name: &'static str,
        help: &'static str,
        show: impl Fn(&VitalSigns, Seconds<'_>) + Send + Sync + 'static,
    ) {
        let signs = Arc::clone(self.signs);
        let gauge = self.meter.f64_observable_gauge(name).with_description(help);
        gauge
            .with_unit("s")
            .with_callback(move |to| {
                if let Some(signs) = signs.read() {
                    show(&signs, to);
                }
            })
            .build();
    }

    /// A moment is absent while there is none: 1970 would be an alarm.
    fn moment(
        &self,
        name: &'static str,
        help: &'static str,
        moment: impl Fn(&VitalSigns) -> Option<Timestamp> + Send + Sync + 'static,
    ) {
        self.seconds(name, help, move |signs, to| {
            if let Some(at) = moment(signs) {
                to.observe(epoch_seconds(at), &[]);
            }
        });
    }

    fn audit_counter(
        &self,
        name: &'static str,
        help: &'static str,
        count: impl Fn(&AuditSigns) -> u64 + Send + Sync + 'static,
    ) {
        self.counter(name, help, move |signs, to| {
            if let Some(audit) = &signs.audit {
                to.observe(count(audit), &[]);
            }
        });
    }

    fn audit_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn(&AuditSigns) -> u64 + Send + Sync + 'static,
    ) {
        self.gauge(name, help, move |signs, to| {
            if let Some(audit) = &signs.audit {
                to.observe(value(audit), &[]);
            }
        });
    }
}
