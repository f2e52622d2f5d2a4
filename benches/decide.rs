//! What one decision costs in process: kept, evaluated, and by Cedar alone, over sets of 10 to 10,000 policies.
//!
//! `cargo bench --bench decide`. A hit is all that a kept decision costs after decoding (schema check, key, look-up); a miss adds
//! slice, index and evaluation; `cedar` is Cedar's own authorizer on the same policies and entities.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the unexpected"
)]

mod workload;

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use countersign::model::Request;
use countersign::policy::{Engine, Snapshot};
use countersign::server::SystemClock;
use countersign::usecase::{
    ActivationHistory, ActiveSnapshot, Authorizer, AuthorizerSettings, CacheSettings,
};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use prost::Message;
use workload::Shape;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: usize = 512;

fn requests(entities: usize) -> Vec<Request> {
    let read = |number| {
        let bytes = workload::request(number, entities).encode_to_vec();
        countersign::grpc::decode_request(&bytes).expect("the request is well formed")
    };
    (0..REQUESTS).map(read).collect()
}

fn authorizer(snapshot: &Arc<Snapshot>) -> (Authorizer, Arc<ActiveSnapshot>) {
    let settings = CacheSettings::default();
    let active = Arc::new(ActiveSnapshot::new(
        Arc::clone(snapshot),
        settings,
        Timestamp::UNIX_EPOCH,
    ));
    let authorizer = Authorizer::new(
        Arc::new(ArcSwapOption::from(Some(Arc::clone(&active)))),
        Arc::<ActivationHistory>::default(),
        None,
        Arc::new(SystemClock),
        AuthorizerSettings { shadow_one_in: 0 },
    );
    (authorizer, active)
}

/// Runs a future that never waits: a kept decision is found without waiting for anything.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waits"),
    }
}

fn bench(criterion: &mut Criterion) {
    for shape in [Shape::Role, Shape::Attribute, Shape::Resource] {
        for policies in [10, 100, 1_000, 10_000] {
            for entities in [0, 1_000, 100_000] {
                bench_set(criterion, shape, policies, entities);
            }
        }
    }
}

fn bench_set(criterion: &mut Criterion, shape: Shape, policies: usize, entities: usize) {
    let snapshot = workload::snapshot(shape, policies, entities);
    let requests = requests(entities);
    let mut group = criterion.benchmark_group(format!("{}/{policies}", shape.name()));
    let mut next = {
        let mut at = 0;
        move || {
            at = (at + 1) % REQUESTS;
            at
        }
    };

    let (authorizer, active) = authorizer(&snapshot);
    for request in &requests {
        let first = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        first
            .block_on(authorizer.authorize_with(&active, request.clone()))
            .expect("a decision");
    }
    group.bench_function(BenchmarkId::new("hit", entities), |bencher| {
        bencher.iter_batched(
            || requests[next()].clone(),
            |request| black_box(now(authorizer.authorize_with(&active, request))),
            BatchSize::SmallInput,
        );
    });
    group.bench_function(BenchmarkId::new("miss", entities), |bencher| {
        bencher.iter_batched(
            || requests[next()].clone(),
            |request| {
                let prepared = snapshot.prepare(request).expect("well formed");
                let plan = snapshot
                    .plan(&prepared, Timestamp::UNIX_EPOCH)
                    .expect("can be planned");
                black_box(plan.decide(Engine::Index))
            },
            BatchSize::SmallInput,
        );
    });
    // Cedar's cost does not depend on the entities, and at 10,000 policies a call takes 15 ms.
    if entities == 1_000 {
        group.bench_function(BenchmarkId::new("cedar", entities), |bencher| {
            let prepared = snapshot.prepare(requests[1].clone()).expect("well formed");
            let plan = snapshot
                .plan(&prepared, Timestamp::UNIX_EPOCH)
                .expect("can be planned");
            bencher.iter(|| black_box(plan.decide(Engine::Full)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(10);
    targets = bench
}
criterion_main!(benches);
