//! Clients that do not stop asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign::grpc::proto::{AuthorizeResponse, Decision};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::harness::{Pdp, wait_until};
use crate::requests::{Change, number, small_start};

/// How many clients ask at once.
const CLIENTS: usize = 4;

/// What one client heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// What each policy version decided, as often as it changed its mind.
    pub(crate) decisions: BTreeMap<String, Vec<Decision>>,
    pub(crate) failures: Vec<Status>,
}

impl Heard {
    fn note(&mut self, answer: Result<AuthorizeResponse, Status>) {
        match answer {
            Ok(answer) => {
                let decision = answer.decision();
                let decisions = self.decisions.entry(answer.policy_version).or_default();
                if !decisions.contains(&decision) {
                    decisions.push(decision);
                }
            }
            Err(status) => self.failures.push(status),
        }
    }
}

/// Clients that ask until they are stopped, half of them for what was decided before.
pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Heard>>,
}

impl Load {
    /// Starts to ask, and returns once it is under way.
    pub(crate) fn start(pdp: &Pdp) -> Self {
        let (stopped, calls) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let ask = |client: usize| {
            let (stopped, calls) = (Arc::clone(&stopped), Arc::clone(&calls));
            let mut api = pdp.client();
            pdp.runtime.spawn(async move {
                let mut heard = Heard::default();
                // A client that was refused stops: it has something to tell.
                while !stopped.load(Ordering::Relaxed) && heard.failures.is_empty() {
                    let call = calls.fetch_add(1, Ordering::Relaxed);
                    // Costs below the limit of the gate: they change what must be decided, not the answer.
                    let cents = if client.is_multiple_of(2) {
                        4
                    } else {
                        call % 2_000
                    };
                    let cents = f64::from(u32::try_from(cents).unwrap());
                    let request = small_start().context("hourly_cost_cents", number(cents));
                    heard.note(
                        api.authorize(request)
                            .await
                            .map(tonic::Response::into_inner),
                    );
                }
                heard
            })
        };
        let clients = (0..CLIENTS).map(ask).collect();
        let load = Self {
            stopped,
            calls,
            clients,
        };
        load.go_on();
        load
    }

    /// Waits for a few more calls.
    pub(crate) fn go_on(&self) {
        let enough = self.calls.load(Ordering::Relaxed) + 20 * CLIENTS;
        wait_until("more calls are made", || {
            self.calls.load(Ordering::Relaxed) >= enough
        });
    }

    /// Stops, and tells what was heard.
    pub(crate) fn stop(self, pdp: &Pdp) -> Heard {
        self.stopped.store(true, Ordering::Relaxed);
        let mut all = Heard::default();
        for client in self.clients {
            let heard = pdp.wait(client).unwrap();
            all.failures.extend(heard.failures);
            for (version, decisions) in heard.decisions {
                all.decisions.entry(version).or_default().extend(decisions);
            }
        }
        all
    }
}
