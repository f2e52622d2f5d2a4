//! What a call costs in process from the bytes that came in to the bytes that go out, without a transport.
//!
//! `cargo bench --bench authorize`. Single calls, kept and evaluated, and batches of 32.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the unexpected"
)]

mod workload;

use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use countersign::grpc::proto::authorization_service_server::AuthorizationService;
use countersign::grpc::proto::{AuthorizeRequest, BatchAuthorizeRequest};
use countersign::grpc::{AuthorizationApi, Gatekeeper};
use countersign::server::SystemClock;
use countersign::usecase::callers::Method;
use countersign::usecase::{
    ActivationHistory, ActiveSnapshot, Authorizer, AuthorizerSettings, CacheSettings,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use prost::Message;
use tokio::runtime::Runtime;
use workload::Shape;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTITIES: usize = 1_000;
const REQUESTS: usize = 512;
const BATCH: usize = 32;

fn api(policies: usize, cache_bytes: u64) -> AuthorizationApi {
    let snapshot = workload::snapshot(Shape::Mixed, policies, ENTITIES);
    let settings = CacheSettings {
        max_bytes: cache_bytes,
        ..CacheSettings::default()
    };
    let active = Arc::new(ActiveSnapshot::new(
        snapshot,
        settings,
        Timestamp::UNIX_EPOCH,
    ));
    let authorizer = Authorizer::new(
        Arc::new(ArcSwapOption::from(Some(active))),
        Arc::<ActivationHistory>::default(),
        None,
        Arc::new(SystemClock),
        AuthorizerSettings { shadow_one_in: 0 },
    );
    AuthorizationApi::new(Arc::new(authorizer))
}

/// Stands for the gate in front of a server.
fn let_in<T>(message: T) -> tonic::Request<T> {
    static GATEKEEPER: OnceLock<Arc<Gatekeeper>> = OnceLock::new();
    let open = || Arc::new(Gatekeeper::for_everybody(Arc::new(SystemClock)));
    let gatekeeper = GATEKEEPER.get_or_init(open);
    gatekeeper.let_in(Method::BATCH_AUTHORIZE, message)
}

fn single(runtime: &Runtime, api: &AuthorizationApi, bytes: &[u8]) -> Vec<u8> {
    let request = AuthorizeRequest::decode(bytes).expect("an encoded request");
    let response = runtime
        .block_on(api.authorize(let_in(request)))
        .expect("a decision");
    response.into_inner().encode_to_vec()
}

fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let requests: Vec<AuthorizeRequest> = (0..REQUESTS)
        .map(|number| workload::request(number, ENTITIES))
        .collect();
    let bodies: Vec<Vec<u8>> = requests.iter().map(Message::encode_to_vec).collect();
    let mut at = 0;
    let mut next = move || {
        at = (at + 1) % REQUESTS;
        at
    };
    let mut group = criterion.benchmark_group("authorize");
    for policies in [10, 10_000] {
        for (name, cache_bytes) in [("kept", 64 << 20), ("evaluated", 0)] {
            let api = api(policies, cache_bytes);
            for body in &bodies {
                single(&runtime, &api, body);
            }
            group.bench_function(BenchmarkId::new(name, policies), |bencher| {
                bencher.iter(|| black_box(single(&runtime, &api, &bodies[next()])));
            });
        }
        let api = api(policies, 64 << 20);
        let batch = BatchAuthorizeRequest {
            requests: requests.iter().take(BATCH).cloned().collect(),
        };
        let bytes = batch.encode_to_vec();
        group.throughput(Throughput::Elements(32));
        group.bench_function(BenchmarkId::new("batch of 32, kept", policies), |bencher| {
            bencher.iter(|| {
                let request =
                    BatchAuthorizeRequest::decode(bytes.as_slice()).expect("an encoded batch");
                let response = runtime.block_on(api.batch_authorize(let_in(request)));
                black_box(response.expect("decisions").into_inner().encode_to_vec())
            });
        });
        group.throughput(Throughput::Elements(1));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = bench
}
criterion_main!(benches);
