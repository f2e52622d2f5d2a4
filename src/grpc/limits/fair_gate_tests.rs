//! The gate on a runtime of one thread, as a core has it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use tokio::task::{LocalSet, spawn_local};

use super::*;

const NOISY: CallerKey = CallerKey::new(1);
const POLITE: CallerKey = CallerKey::new(2);

/// Runs `test` beside a gate that is run.
fn with_gate<F: Future<Output = ()>>(test: impl FnOnce(FairGate) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let gate = FairGate::new(FairSettings::default());
    LocalSet::new().block_on(&runtime, async {
        let running = spawn_local(gate.clone().run());
        tokio::task::yield_now().await;
        test(gate).await;
        running.abort();
    });
}

/// Polls once.
async fn begin(entering: &mut Pin<Box<Entering>>) -> Option<Result<Pass, TurnedAway>> {
    poll_fn(|cx| match entering.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Calls that wait, of a caller that is not alone.
async fn crowd(gate: &FairGate, count: usize) -> Vec<Pin<Box<Entering>>> {
    gate.enter(POLITE, None).await.unwrap();
    let mut waiting = Vec::new();
    while waiting.len() < count {
        let mut entering = Box::pin(gate.enter(NOISY, None));
        if begin(&mut entering).await.is_none() {
            waiting.push(entering);
        }
    }
    waiting
}

#[test]
fn a_polite_call_does_not_wait_behind_a_noisy_callers() {
    with_gate(|gate| async move {
        gate.enter(NOISY, None).await.unwrap();
        gate.enter(POLITE, None).await.unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut calls = Vec::new();
        for caller in std::iter::repeat_n(NOISY, 1_000).chain([POLITE]) {
            let (gate, order) = (gate.clone(), Rc::clone(&order));
            calls.push(spawn_local(async move {
                gate.enter(caller, None).await.unwrap();
                order.borrow_mut().push(caller);
            }));
        }
        for call in calls {
            call.await.unwrap();
        }
        let order = order.borrow();
        assert_eq!(order.len(), 1_001);
        let before = order.iter().position(|caller| *caller == POLITE).unwrap();
        assert!(before <= 8, "{before} calls were served before it");
        assert_eq!(gate.waiting(), 0);
    });
}

#[test]
fn a_call_that_is_dropped_leaves_no_trace() {
    with_gate(|gate| async move {
        let mut waiting = crowd(&gate, 20).await;
        assert_eq!(gate.waiting(), 20);
        waiting.truncate(5);
        assert_eq!(gate.waiting(), 5);
        for entering in waiting {
            entering.await.unwrap();
        }
        assert_eq!(gate.waiting(), 0);
    });
}

#[test]
fn a_call_whose_deadline_passed_is_turned_away() {
    with_gate(|gate| async move {
        let _waiting = crowd(&gate, 1).await;
        let late = gate.enter(NOISY, Some(Instant::now()));
        assert_eq!(late.await, Err(TurnedAway::DeadlinePassed));
    });
}

#[test]
fn more_than_may_wait_is_turned_away_at_once() {
    with_gate(|gate| async move {
        let _waiting = crowd(&gate, 1_024).await;
        let mut one_more = Box::pin(gate.enter(NOISY, None));
        let outcome = begin(&mut one_more).await;
        assert_eq!(outcome, Some(Err(TurnedAway::TooManyWaiting)));
    });
}

#[test]
fn nobody_waits_at_a_gate_that_is_not_run() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let gate = FairGate::new(FairSettings::default());
        for _ in 0..1_000 {
            gate.enter(NOISY, None).await.unwrap();
            gate.enter(POLITE, None).await.unwrap();
        }
    });
}

#[test]
fn calls_that_wait_pass_when_the_gate_is_no_longer_run() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let gate = FairGate::new(FairSettings::default());
        let mut running = Box::pin(gate.clone().run());
        poll_fn(|cx| ready_after(running.as_mut().poll(cx))).await;
        let waiting = crowd(&gate, 50).await;
        assert_eq!(gate.waiting(), 50);
        drop(running);
        for entering in waiting {
            entering.await.unwrap();
        }
        assert_eq!(gate.waiting(), 0);
    });
}

fn ready_after(poll: Poll<()>) -> Poll<()> {
    assert!(poll.is_pending());
    Poll::Ready(())
}

#[test]
fn turns_stop_when_nobody_waits() {
    with_gate(|gate| async move {
        for entering in crowd(&gate, 100).await {
            entering.await.unwrap();
        }
        let turn = || gate.with(|turns| turns.number());
        tokio::task::yield_now().await;
        let before = turn();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(turn(), before);
    });
}
