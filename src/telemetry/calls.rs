//! How long calls take, by method and status.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram};

use crate::usecase::observing::CallSeen;

/// The status of a call that did not fail.
pub(super) const OK: &str = "OK";
/// How many pairs get a histogram of their own: some thirty methods with a handful of statuses each.
const MAX_PAIRS: usize = 1000;

type Pair = (&'static str, &'static str);
type Bound = HashMap<Pair, BoundHistogram<f64>, RandomState>;

/// One bound histogram for each pair of method and status, made when the pair is first seen.
///
/// The map is replaced as a whole: calls on all cores read it without writing to memory that they share.
pub(super) struct CallTimes {
    durations: Histogram<f64>,
    bound: ArcSwap<Bound>,
}

impl CallTimes {
    pub(super) fn new(durations: Histogram<f64>) -> Self {
        Self {
            durations,
            bound: ArcSwap::default(),
        }
    }

    pub(super) fn record(&self, seen: &CallSeen<'_>) {
        let took = seen.took.as_secs_f64();
        let pair = (seen.method, seen.status);
        let bound = self.bound.load();
        if let Some(durations) = bound.get(&pair) {
            durations.record(took);
        } else if bound.len() < MAX_PAIRS {
            self.bind(pair).record(took);
        } else {
            self.durations.record(took, &attributes(pair));
        }
    }

    fn bind(&self, pair: Pair) -> BoundHistogram<f64> {
        // Two that bind at once get the same series of the SDK, so it does not matter whose map stays.
        let durations = self.durations.bind(&attributes(pair));
        self.bound.rcu(|bound| {
            let mut bound = Bound::clone(bound);
            bound.insert(pair, durations.clone());
            Arc::new(bound)
        });
        durations
    }
}

impl fmt::Debug for CallTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTimes")
            .field("pairs", &self.bound.load().len())
            .finish_non_exhaustive()
    }
}

/// What metrics and spans say of a call, after the conventions for RPC.
pub(super) fn attributes((method, status): Pair) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", method),
        KeyValue::new("rpc.response.status_code", status),
    ];
    if status != OK {
        attributes.push(KeyValue::new("error.type", status));
    }
    attributes
}
