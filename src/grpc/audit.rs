//! `AuditService`.
//!
//! INVARIANT (noted-or-no-answer): records leave only after it was recorded who gets them. Checkpoints and proofs that a log only
//! grew say nothing about a record and are not noted: noting them would make the control log grow by being watched.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::Stream;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::approval::{Digest, Person};
use crate::audit::filter::{EntityName, RecordFilter};
use crate::audit::proto::record::What;
use crate::audit::proto::{Outcome, Record};
use crate::audit::tree::TreeHash;
use crate::usecase::audit_reading::{
    Cursor, LogLibrary, LoggedRecord, Page, Query, ReadError, ReadLog, SEARCH_LIMIT,
};

use super::access::Access;
use super::deadline::Deadline;
use super::proto::audit_service_server::AuditService;
use super::proto::query_records_response::Part;
use super::proto::{
    self, ErrorReason, ExportRecordsRequest, ExportRecordsResponse, GetCheckpointRequest,
    GetCheckpointResponse, GetConsistencyProofRequest, GetConsistencyProofResponse,
    GetInclusionProofRequest, GetInclusionProofResponse, ListLogsRequest, ListLogsResponse, Log,
    PageEnd, QueryRecordsRequest, QueryRecordsResponse,
};
use super::status::ClientError;

const DEFAULT_SIZE: u32 = 100;
const LARGEST_SIZE: u32 = 1_000;
/// The bytes of one piece of an export.
const PIECE_BYTES: usize = 64 * 1024;
/// How many pieces of an export wait for a slow reader.
const PIECES_AHEAD: usize = 4;

type Records = Pin<Box<dyn Stream<Item = Result<QueryRecordsResponse, Status>> + Send>>;

/// What is read, and where reading is noted.
pub type AuditParts = (Arc<dyn LogLibrary>, Arc<dyn ReadLog>);

/// Serves the audit log; without one every call is UNIMPLEMENTED.
#[derive(Clone, Debug)]
pub struct AuditApi {
    logs: Option<AuditParts>,
    /// Who may read, by their subjects; [`EVERYBODY`] is whoever signs in.
    readers: Arc<BTreeSet<String>>,
    /// Where files are read: a slow reader holds a thread there for as long as it likes, and no serving thread.
    files: Handle,
}

/// Stands for all persons among the readers.
const EVERYBODY: &str = "*";

impl AuditApi {
    /// Serves the logs to those persons whom `readers` names by their subjects, or to all of them for `*`, and to those whose binding
    /// lets them call this service; has what they read noted.
    ///
    /// Reads on `files`, a runtime that decides nothing.
    pub fn new(logs: Option<AuditParts>, readers: &[String], files: Handle) -> Self {
        Self {
            files,
            logs,
            readers: Arc::new(readers.iter().cloned().collect()),
        }
    }

    fn logs(&self) -> Result<&AuditParts, ClientError> {
        self.logs.as_ref().ok_or_else(|| {
            let message = "no audit log is kept here: set `audit.path`";
            ClientError::new(Code::Unimplemented, ErrorReason::AuditUnavailable, message)
        })
    }

    /// Who asks. Nobody reads without a name.
    fn reader<T>(&self, request: &Request<T>) -> Result<Person, ClientError> {
        let access = Access::of(request)?;
        let person = access.required_person()?;
        let is_named = self.readers.contains(EVERYBODY) || self.readers.contains(&person.subject);
        if is_named || access.is_named() {
            return Ok(person);
        }
        let message = "this person may not read the audit log: `audit.readers` does not name them";
        Err(ClientError::new(
            Code::PermissionDenied,
            ErrorReason::MayNotRead,
            message,
        ))
    }

    /// Reads on a thread that may wait for files.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn LogLibrary) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let library = Arc::clone(&self.logs()?.0);
        let read = self
            .files
            .spawn_blocking(move || read(library.as_ref()))
            .await;
        Ok(read.map_err(|_| lost())??)
    }

    async fn note(&self, person: &Person, what: &str, records: u64) -> Result<(), ClientError> {
        Ok(self.logs()?.1.note(person, what, records).await?)
    }

    async fn page(
        &self,
        person: &Person,
        asked: &QueryRecordsRequest,
    ) -> Result<Records, ClientError> {
        let filter = filter(asked.filter.as_ref())?;
        let query = Query {
            after: cursor(asked)?,
            limit: usize::try_from(page_size(asked.page_size)).unwrap_or(1),
            oldest_first: asked.oldest_first,
            search_limit: SEARCH_LIMIT,
            filter: filter.clone(),
        };
        let page = self.read(move |logs| logs.query(&query)).await?;
        let count = u64::try_from(page.records.len()).unwrap_or(u64::MAX);
        self.note(person, &filter.to_string(), count).await?;
        Ok(Box::pin(futures_util::stream::iter(parts(page, asked))))
    }

    async fn export_pieces(
        &self,
        person: Person,
        asked: ExportRecordsRequest,
    ) -> Result<ReceiverStream<Result<ExportRecordsResponse, Status>>, ClientError> {
        let filter = filter(asked.filter.as_ref())?;
        let (library, notes) = self.logs()?.clone();
        let what = format!("export {filter}");
        self.note(&person, &what, 0).await?;
        let (pieces, received) = mpsc::channel(PIECES_AHEAD);
        let runtime = Handle::current();
        self.files.spawn_blocking(move || {
            let mut out = Pieces::new(pieces.clone());
            let exported = library.export(&filter, &mut out);
            let ended = exported.map_err(ClientError::from).and_then(|records| {
                // The last piece leaves when the number is noted too; without it the archive has no end.
                let what = format!("{what} (done)");
                runtime.block_on(notes.note(&person, &what, records))?;
                out.finish().map_err(|error| ReadError::from(error).into())
            });
            if let Err(error) = ended {
                pieces.blocking_send(Err(error.into())).ok();
            }
        });
        Ok(ReceiverStream::new(received))
    }
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    type QueryRecordsStream = Records;
    type ExportRecordsStream = ReceiverStream<Result<ExportRecordsResponse, Status>>;

    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        self.reader(&request)?;
        let deadline = Deadline::of(&request);
        let logs = deadline.keep(self.read(|logs| logs.logs())).await??;
        let logs = logs.into_iter().map(|log| Log {
            name: log.name,
            origin: log.origin,
            keys: log.keys,
            size: log.size,
            first_index: log.first_index,
        });
        Ok(Response::new(ListLogsResponse {
            logs: logs.collect(),
        }))
    }

    async fn query_records(
        &self,
        request: Request<QueryRecordsRequest>,
    ) -> Result<Response<Records>, Status> {
        let person = self.reader(&request)?;
        let deadline = Deadline::of(&request);
        let asked = request.into_inner();
        let page = deadline.keep(self.page(&person, &asked)).await??;
        Ok(Response::new(page))
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        self.reader(&request)?;
        let deadline = Deadline::of(&request);
        let log = request.into_inner().log;
        let read = self.read(move |logs| logs.checkpoint(&log));
        let checkpoint = deadline.keep(read).await??;
        Ok(Response::new(GetCheckpointResponse { checkpoint }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let person = self.reader(&request)?;
        let deadline = Deadline::of(&request);
        let asked = request.into_inner();
        let what = format!("log={} index={}", asked.log, asked.index);
        let proof = deadline
            .keep(async {
                let size = Some(asked.size).filter(|size| *size > 0);
                let proof = self
                    .read(move |logs| logs.inclusion(&asked.log, asked.index, size))
                    .await?;
                self.note(&person, &what, 1).await?;
                Ok::<_, ClientError>(proof)
            })
            .await??;
        Ok(Response::new(GetInclusionProofResponse {
            size: proof.size,
            hashes: hashes(&proof.hashes),
            leaf: proof.leaf,
            checkpoint: proof.checkpoint.unwrap_or_default(),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        self.reader(&request)?;
        let deadline = Deadline::of(&request);
        let asked = request.into_inner();
        let new = Some(asked.new_size).filter(|size| *size > 0);
        let read = self.read(move |logs| logs.consistency(&asked.log, asked.old_size, new));
        let proof = deadline.keep(read).await??;
        Ok(Response::new(GetConsistencyProofResponse {
            new_size: proof.new_size,
            hashes: hashes(&proof.hashes),
        }))
    }

    async fn export_records(
        &self,
        request: Request<ExportRecordsRequest>,
    ) -> Result<Response<Self::ExportRecordsStream>, Status> {
        let person = self.reader(&request)?;
        let pieces = self.export_pieces(person, request.into_inner()).await?;
        Ok(Response::new(pieces))
    }
}

/// The messages of a page.
fn parts(page: Page, asked: &QueryRecordsRequest) -> Vec<Result<QueryRecordsResponse, Status>> {
    let end = PageEnd {
        next_page_token: page.next.map(|next| token(next, asked)).unwrap_or_default(),
        searched: page.searched,
    };
    let records = page
        .records
        .into_iter()
        .map(logged_message)
        .map(Part::Record);
    let parts = records.chain([Part::End(end)]);
    parts
        .map(|part| Ok(QueryRecordsResponse { part: Some(part) }))
        .collect()
}

/// The message of a record, with what it says beside its bytes.
pub fn logged_message(logged: LoggedRecord) -> proto::LoggedRecord {
    // What cannot be decoded is given as it is; `leaf` is what counts.
    let record = Record::decode(logged.leaf.as_slice()).ok();
    let decision_id = match record.as_ref().and_then(|record| record.what.as_ref()) {
        Some(What::Decision(decision)) => uuid::Uuid::from_slice(&decision.decision_id).ok(),
        _ => None,
    };
    proto::LoggedRecord {
        log: logged.log,
        index: logged.index,
        record,
        leaf: logged.leaf,
        decision_id: decision_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn hashes(hashes: &[TreeHash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect()
}

/// Reads a filter.
fn filter(asked: Option<&proto::RecordFilter>) -> Result<RecordFilter, ClientError> {
    let Some(asked) = asked else {
        return Ok(RecordFilter::default());
    };
    let outcome = match Outcome::try_from(asked.outcome) {
        Ok(Outcome::Unspecified) => None,
        Ok(outcome) => Some(outcome),
        Err(_) => return Err(ClientError::invalid("filter.outcome", "is none")),
    };
    let decision_id = given(&asked.decision_id).map(|id| {
        let id = id.parse();
        id.map_err(|_| ClientError::invalid("filter.decision_id", "is not a UUID"))
    });
    Ok(RecordFilter {
        principal: entity("filter.principal", &asked.principal)?,
        action: given(&asked.action),
        resource: entity("filter.resource", &asked.resource)?,
        outcome,
        approval_id: given(&asked.approval_id),
        decision_id: decision_id.transpose()?,
        from_us: time("filter.from_time", asked.from_time.as_ref())?,
        to_us: time("filter.to_time", asked.to_time.as_ref())?,
        log: given(&asked.log),
    })
}

/// The message that asks for `filter`.
pub fn filter_message(filter: &RecordFilter) -> proto::RecordFilter {
    let time = |us: i64| {
        let nanos = us.rem_euclid(1_000_000).saturating_mul(1_000);
        prost_types::Timestamp {
            seconds: us.div_euclid(1_000_000),
            nanos: i32::try_from(nanos).unwrap_or(0),
        }
    };
    let text = |name: &Option<EntityName>| name.as_ref().map(ToString::to_string);
    proto::RecordFilter {
        principal: text(&filter.principal).unwrap_or_default(),
        action: filter.action.clone().unwrap_or_default(),
        resource: text(&filter.resource).unwrap_or_default(),
        outcome: filter.outcome.unwrap_or(Outcome::Unspecified).into(),
        approval_id: filter.approval_id.clone().unwrap_or_default(),
        decision_id: filter
            .decision_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        from_time: filter.from_us.map(time),
        to_time: filter.to_us.map(time),
        log: filter.log.clone().unwrap_or_default(),
    }
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn entity(field: &str, text: &str) -> Result<Option<EntityName>, ClientError> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = EntityName::parse(text);
    let name = name.ok_or_else(|| ClientError::invalid(field, "is not `Type::\"id\"`"))?;
    Ok(Some(name))
}

fn time(field: &str, time: Option<&prost_types::Timestamp>) -> Result<Option<i64>, ClientError> {
    let Some(time) = time else { return Ok(None) };
    let micros = i64::from(time.nanos).div_euclid(1_000);
    let us = time.seconds.checked_mul(1_000_000);
    let us = us.and_then(|us| us.checked_add(micros));
    let us = us.filter(|_| (0..1_000_000_000).contains(&time.nanos));
    Ok(Some(us.ok_or_else(|| {
        ClientError::invalid(field, "is not a time")
    })?))
}

fn page_size(asked: u32) -> u32 {
    match asked {
        0 => DEFAULT_SIZE,
        size => size.min(LARGEST_SIZE),
    }
}

/// What a page token holds.
#[derive(Deserialize, Serialize)]
struct Token {
    cursor: Cursor,
    /// The digest of the question: a token continues the search that it comes from, and no other.
    question: Digest,
}

fn cursor(asked: &QueryRecordsRequest) -> Result<Option<Cursor>, ClientError> {
    if asked.page_token.is_empty() {
        return Ok(None);
    }
    let token = URL_SAFE_NO_PAD
        .decode(&asked.page_token)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok())
        .ok_or_else(|| ClientError::invalid("page_token", "is not a token of this search"))?;
    if token.question != question(asked) {
        let message =
            "belongs to another question: send the same filter and order with it as before";
        return Err(ClientError::invalid("page_token", message));
    }
    Ok(Some(token.cursor))
}

fn token(cursor: Cursor, asked: &QueryRecordsRequest) -> String {
    let token = Token {
        cursor,
        question: question(asked),
    };
    serde_json::to_vec(&token)
        .map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
        .unwrap_or_default()
}

fn question(asked: &QueryRecordsRequest) -> Digest {
    let filter = asked.filter.clone().unwrap_or_default();
    let question = format!("{:?}", (filter, asked.oldest_first));
    Digest::of("countersign query v1", question.as_bytes())
}

/// Cuts what is written into pieces, and waits while too many of them wait to be sent.
struct Pieces {
    pieces: mpsc::Sender<Result<ExportRecordsResponse, Status>>,
    open: Vec<u8>,
}

impl Pieces {
    fn new(pieces: mpsc::Sender<Result<ExportRecordsResponse, Status>>) -> Self {
        let open = Vec::with_capacity(PIECE_BYTES);
        Self { pieces, open }
    }

    fn send(&mut self) -> io::Result<()> {
        let data = std::mem::replace(&mut self.open, Vec::with_capacity(PIECE_BYTES));
        let sent = self
            .pieces
            .blocking_send(Ok(ExportRecordsResponse { data }));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away"))
    }

    /// Sends what is left.
    fn finish(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.send()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full piece is sent when there is more: the last one stays for `finish`.
        if self.open.len() >= PIECE_BYTES {
            self.send()?;
        }
        let room = PIECE_BYTES.saturating_sub(self.open.len());
        let (now, _) = bytes.split_at(room.min(bytes.len()));
        self.open.extend_from_slice(now);
        Ok(now.len())
    }

    /// Nothing: a piece is sent when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost() -> ClientError {
    let message = "the audit log could not be read";
    ClientError::new(Code::Internal, ErrorReason::Internal, message)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
