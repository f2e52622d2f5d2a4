//! `AuditService` over a real connection: who may read, what is noted, and that nothing leaves unnoted.

use std::sync::{Arc, Mutex};

use countersign::approval::Person;
use countersign::audit::proto::Outcome;
use countersign::grpc::proto::audit_service_client::AuditServiceClient;
use countersign::grpc::proto::audit_service_server::AuditServiceServer;
use countersign::grpc::proto::query_records_response::Part;
use countersign::grpc::proto::{
    ExportRecordsRequest, GetCheckpointRequest, GetInclusionProofRequest, ListLogsRequest, PageEnd,
    QueryRecordsRequest, RecordFilter,
};
use countersign::grpc::{AuditApi, Gatekeeper};
use countersign::server::SystemClock;
use countersign::usecase::audit_reading::{LogLibrary, NotNoted, ReadLog};
use countersign::usecase::callers::{CallerFacts, Identity, Method};
use countersign::usecase::ports::PortFuture;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};

use crate::support::{Log, ONE, folder};

/// Remembers who read what, or refuses to.
#[derive(Debug, Default)]
struct Notes {
    kept: Mutex<Vec<(String, String, u64)>>,
    refuses: bool,
}

impl ReadLog for Notes {
    fn note<'a>(
        &'a self,
        person: &'a Person,
        filter: &'a str,
        records: u64,
    ) -> PortFuture<'a, Result<(), NotNoted>> {
        Box::pin(async move {
            if self.refuses {
                return Err(NotNoted("no room".to_owned()));
            }
            let note = (person.subject.clone(), filter.to_owned(), records);
            self.kept.lock().unwrap().push(note);
            Ok(())
        })
    }
}

struct Served {
    client: AuditServiceClient<Channel>,
    notes: Arc<Notes>,
    library: Arc<dyn LogLibrary>,
    logs: Vec<Log>,
    _root: tempfile::TempDir,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server under test runs beside the test"
)]
async fn serve(refuses: bool) -> Served {
    let (root, logs, library) = folder([20, 2_500, 0]);
    let library: Arc<dyn LogLibrary> = Arc::new(library);
    let notes = Arc::new(Notes {
        refuses,
        ..Notes::default()
    });
    let parts: (Arc<dyn LogLibrary>, Arc<dyn ReadLog>) =
        (Arc::clone(&library), Arc::clone(&notes) as _);
    let api = AuditApi::new(Some(parts), &["*".to_owned()], Handle::current());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(AuditServiceServer::with_interceptor(api, let_in));
    let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
    tokio::task::spawn(async move { serving.await.unwrap() });
    let client = AuditServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    Served {
        client,
        notes,
        library,
        logs,
        _root: root,
    }
}

/// Stands for the gate in front of a server: whoever shows a credential is yuki.
#[expect(clippy::unnecessary_wraps, reason = "as tonic wants it")]
fn let_in(mut request: Request<()>) -> Result<Request<()>, Status> {
    let gatekeeper = Arc::new(Gatekeeper::for_everybody(Arc::new(SystemClock)));
    let nobody = (String::new(), 0);
    let person = request.metadata().get("authorization").map(|_| Person {
        issuer: "development".to_owned(),
        subject: "yuki".to_owned(),
    });
    let identity = Identity::new(nobody, CallerFacts::Unknown, &[]).as_person(person);
    let method = Method::named("AuditService", "QueryRecords").unwrap();
    let access = gatekeeper.access(Arc::new(identity), method);
    request.extensions_mut().insert(access);
    Ok(request)
}

fn by<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = "Bearer development:yuki".parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

async fn page(served: &mut Served, asked: QueryRecordsRequest) -> (Vec<u64>, PageEnd) {
    let mut parts = served
        .client
        .query_records(by(asked))
        .await
        .unwrap()
        .into_inner();
    let (mut indexes, mut end) = (Vec::new(), None);
    while let Some(part) = parts.message().await.unwrap() {
        match part.part.unwrap() {
            Part::Record(record) => {
                assert!(record.record.is_some());
                indexes.push(record.index);
            }
            Part::End(said) => end = Some(said),
        }
    }
    (indexes, end.unwrap())
}

#[tokio::test]
async fn a_search_goes_on_page_by_page_and_each_is_noted() {
    let mut served = serve(false).await;
    let mut asked = QueryRecordsRequest {
        filter: Some(RecordFilter {
            outcome: Outcome::Deny.into(),
            log: ONE.to_owned(),
            ..RecordFilter::default()
        }),
        page_size: 300,
        ..QueryRecordsRequest::default()
    };
    let mut indexes = Vec::new();
    loop {
        let (more, end) = page(&mut served, asked.clone()).await;
        indexes.extend(more);
        asked.page_token = end.next_page_token;
        if asked.page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<u64> = (0..2_500).rev().filter(|n| n % 3 == 1).collect();
    assert_eq!(indexes, expected);
    let kept = served.notes.kept.lock().unwrap().clone();
    let total: u64 = kept.iter().map(|(_, _, records)| records).sum();
    assert_eq!((kept.len(), total), (3, 833));
    assert_eq!(
        (kept[0].0.as_str(), kept[0].1.as_str()),
        ("yuki", format!("log={ONE} outcome=DENY").as_str())
    );
}

#[tokio::test]
async fn nobody_reads_without_a_name() {
    let mut served = serve(false).await;
    let code = |status: Status| status.code();
    let refused = served
        .client
        .list_logs(ListLogsRequest {})
        .await
        .unwrap_err();
    assert_eq!(code(refused), Code::Unauthenticated);
    let refused = served
        .client
        .query_records(QueryRecordsRequest::default())
        .await;
    assert_eq!(
        code(refused.map(|_| ()).unwrap_err()),
        Code::Unauthenticated
    );
    let refused = served
        .client
        .export_records(ExportRecordsRequest::default())
        .await;
    assert_eq!(
        code(refused.map(|_| ()).unwrap_err()),
        Code::Unauthenticated
    );
    let request = GetCheckpointRequest {
        log: ONE.to_owned(),
    };
    let refused = served.client.get_checkpoint(request).await.unwrap_err();
    assert_eq!(code(refused), Code::Unauthenticated);
    assert!(served.notes.kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_answered() {
    let mut served = serve(true).await;
    let refused = served
        .client
        .query_records(by(QueryRecordsRequest::default()))
        .await;
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), Code::Unavailable);
    let refused = served
        .client
        .export_records(by(ExportRecordsRequest::default()))
        .await;
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), Code::Unavailable);
    let proof = GetInclusionProofRequest {
        log: ONE.to_owned(),
        ..GetInclusionProofRequest::default()
    };
    let refused = served.client.get_inclusion_proof(by(proof)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    // What says nothing about a record needs no note.
    assert!(
        served
            .client
            .list_logs(by(ListLogsRequest {}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_export_arrives_whole_and_is_noted_twice() {
    let mut served = serve(false).await;
    let response = served
        .client
        .export_records(by(ExportRecordsRequest::default()))
        .await;
    let mut pieces = response.unwrap().into_inner();
    let mut archive = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        assert!((1..=64 * 1024).contains(&piece.data.len()));
        archive.extend(piece.data);
    }
    let mut expected = Vec::new();
    served
        .library
        .export(
            &countersign::audit::filter::RecordFilter::default(),
            &mut expected,
        )
        .unwrap();
    assert_eq!(archive, expected);
    let kept = served.notes.kept.lock().unwrap().clone();
    let notes: Vec<_> = kept
        .iter()
        .map(|(_, what, records)| (what.as_str(), *records))
        .collect();
    assert_eq!(
        notes,
        [
            ("export everything", 0),
            ("export everything (done)", 2_500)
        ]
    );
}

#[tokio::test]
async fn proofs_and_checkpoints_are_those_of_the_log() {
    let mut served = serve(false).await;
    let logs = served
        .client
        .list_logs(by(ListLogsRequest {}))
        .await
        .unwrap()
        .into_inner()
        .logs;
    let names: Vec<_> = logs.iter().map(|log| log.name.as_str()).collect();
    assert_eq!((names.len(), names[0]), (3, "control"));
    let request = GetInclusionProofRequest {
        log: ONE.to_owned(),
        index: 1_234,
        size: 0,
    };
    let proof = served
        .client
        .get_inclusion_proof(by(request))
        .await
        .unwrap()
        .into_inner();
    let ours = served.library.inclusion(ONE, 1_234, None).unwrap();
    assert_eq!(
        (proof.size, &proof.leaf),
        (2_500, &served.logs[1].leaves[1_234])
    );
    assert_eq!(proof.hashes.len(), ours.hashes.len());
    assert_eq!(proof.checkpoint, ours.checkpoint.unwrap());
    for (log, index) in [("nowhere", 0), (ONE, 2_500)] {
        let request = GetInclusionProofRequest {
            log: log.to_owned(),
            index,
            size: 0,
        };
        let refused = served
            .client
            .get_inclusion_proof(by(request))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
}
