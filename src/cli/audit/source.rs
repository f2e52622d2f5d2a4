//! Where the records come from: a server, or an audit folder on this machine.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::audit::filter::RecordFilter;
use crate::audit::tree::TreeHash;
use crate::cli::approvals::{Connection, failure};
use crate::cli::dial::Dialled;
use crate::cli::output::say;
use crate::grpc::filter_message;
use crate::grpc::proto::audit_service_client::AuditServiceClient;
use crate::grpc::proto::query_records_response::Part;
use crate::grpc::proto::{
    ExportRecordsRequest, GetInclusionProofRequest, ListLogsRequest, PageEnd, QueryRecordsRequest,
};
use crate::storage::audit_folder::AuditFolder;
use crate::usecase::audit_reading::{
    Inclusion, LogInfo, LogLibrary, LoggedRecord, Query, SEARCH_LIMIT,
};

/// The largest page that the server gives.
const LARGEST_PAGE: usize = 1_000;
/// The largest message that a server may send: a record, twice.
const MESSAGE_BYTES: usize = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    #[command(flatten)]
    connection: Connection,
    /// Read this audit folder, without a server.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl SourceArguments {
    /// Opens the folder, or connects.
    pub(super) async fn open(&self) -> anyhow::Result<Source> {
        if let Some(dir) = &self.dir {
            let folder = AuditFolder::open(dir)
                .with_context(|| format!("`{}` cannot be read", dir.display()))?;
            return Ok(Source::Folder(folder));
        }
        let Dialled {
            channel,
            authorization,
        } = self.connection.dial().await?;
        let client = AuditServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        Ok(Source::Server {
            client,
            authorization,
        })
    }
}

/// Where records are.
#[derive(Debug)]
pub(super) enum Source {
    /// A server that reads its own logs.
    Server {
        client: AuditServiceClient<Channel>,
        authorization: Option<MetadataValue<Ascii>>,
    },
    /// A folder that is read here.
    Folder(AuditFolder),
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<LoggedRecord>,
    pub(super) has_more: bool,
}

impl Source {
    /// What it is, in a word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Server { .. } => "server",
            Self::Folder(_) => "folder",
        }
    }

    /// The logs there are.
    pub(super) async fn logs(&self) -> anyhow::Result<Vec<LogInfo>> {
        match self {
            Self::Folder(folder) => Ok(folder.logs()?),
            Self::Server { client, .. } => {
                let request = self.request(ListLogsRequest {});
                let response = client.clone().list_logs(request).await;
                let logs = response.map_err(|status| failure(&status))?.into_inner();
                let logs = logs.logs.into_iter().map(|log| LogInfo {
                    name: log.name,
                    origin: log.origin,
                    keys: log.keys,
                    size: log.size,
                    first_index: log.first_index,
                });
                Ok(logs.collect())
            }
        }
    }

    /// The first `limit` records that fit, in the order asked for, however many pages it takes.
    pub(super) async fn find(
        &self,
        filter: &RecordFilter,
        limit: usize,
        oldest_first: bool,
    ) -> anyhow::Result<Found> {
        match self {
            Self::Folder(folder) => find_here(folder, filter, limit, oldest_first),
            Self::Server { client, .. } => {
                let mut asked = QueryRecordsRequest {
                    filter: Some(filter_message(filter)),
                    page_size: 0,
                    page_token: String::new(),
                    oldest_first,
                };
                let mut found = Found::default();
                let mut searched = Searched::default();
                loop {
                    let left = limit.saturating_sub(found.records.len());
                    asked.page_size = u32::try_from(left.min(LARGEST_PAGE)).unwrap_or(0);
                    let request = self.request(asked.clone());
                    let end = read_page(client.clone(), request, &mut found.records).await?;
                    searched.add(end.searched);
                    asked.page_token = end.next_page_token;
                    found.has_more = !asked.page_token.is_empty();
                    if !found.has_more || found.records.len() >= limit {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// The proof that a record is in its log.
    pub(super) async fn inclusion(&self, log: &str, index: u64) -> anyhow::Result<Inclusion> {
        match self {
            Self::Folder(folder) => Ok(folder.inclusion(log, index, None)?),
            Self::Server { client, .. } => {
                let request = self.request(GetInclusionProofRequest {
                    log: log.to_owned(),
                    index,
                    size: 0,
                });
                let response = client.clone().get_inclusion_proof(request).await;
                let proof = response.map_err(|status| failure(&status))?.into_inner();
                let hashes = proof.hashes.into_iter().map(|hash| {
                    let bytes: Option<[u8; 32]> = hash.try_into().ok();
                    bytes.map(TreeHash::from)
                });
                let hashes: Option<Vec<_>> = hashes.collect();
                Ok(Inclusion {
                    size: proof.size,
                    hashes: hashes.context("the server sent a hash that is none")?,
                    leaf: proof.leaf,
                    checkpoint: Some(proof.checkpoint).filter(|note| !note.is_empty()),
                })
            }
        }
    }

    /// Writes a bundle to `out`; `tell` is told how many bytes there are.
    pub(super) async fn export(
        &self,
        filter: &RecordFilter,
        out: &mut dyn Write,
        mut tell: impl FnMut(usize),
    ) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => {
                let mut out = Told { out, tell };
                folder.export(filter, &mut out)?;
                Ok(())
            }
            Self::Server { client, .. } => {
                let request = self.request(ExportRecordsRequest {
                    filter: Some(filter_message(filter)),
                });
                let response = client.clone().export_records(request).await;
                let mut pieces = response.map_err(|status| failure(&status))?.into_inner();
                let mut is_empty = true;
                while let Some(piece) = pieces.message().await.map_err(|status| failure(&status))? {
                    is_empty = false;
                    out.write_all(&piece.data)?;
                    tell(piece.data.len());
                }
                if is_empty {
                    bail!("the server sent nothing");
                }
                Ok(())
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Self::Server {
            authorization: Some(authorization),
            ..
        } = self
        {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", authorization.clone());
        }
        request
    }
}

/// Reads one page; answers how it ended.
async fn read_page(
    mut client: AuditServiceClient<Channel>,
    request: Request<QueryRecordsRequest>,
    records: &mut Vec<LoggedRecord>,
) -> anyhow::Result<PageEnd> {
    let response = client.query_records(request).await;
    let mut parts = response.map_err(|status| failure(&status))?.into_inner();
    let mut end = None;
    while let Some(part) = parts.message().await.map_err(|status| failure(&status))? {
        match part.part {
            Some(Part::Record(record)) => records.push(LoggedRecord {
                log: record.log,
                index: record.index,
                leaf: record.leaf,
            }),
            Some(Part::End(said)) => end = Some(said),
            None => {}
        }
    }
    end.context("the server did not finish the page")
}

fn find_here(
    folder: &AuditFolder,
    filter: &RecordFilter,
    limit: usize,
    oldest_first: bool,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut searched = Searched::default();
    let mut after = None;
    loop {
        let page = folder.query(&Query {
            filter: filter.clone(),
            after: after.take(),
            limit: limit.saturating_sub(found.records.len()),
            oldest_first,
            search_limit: SEARCH_LIMIT,
        })?;
        found.records.extend(page.records);
        searched.add(page.searched);
        found.has_more = page.next.is_some();
        after = page.next;
        if !found.has_more || found.records.len() >= limit {
            return Ok(found);
        }
    }
}

/// Says now and then how many records were looked at.
#[derive(Default)]
struct Searched {
    records: u64,
    pages: u64,
}

impl Searched {
    fn add(&mut self, records: u64) {
        self.records = self.records.saturating_add(records);
        self.pages = self.pages.saturating_add(1);
        if self.pages.is_multiple_of(4) {
            say(&format!("searched {} records so far", self.records));
        }
    }
}

/// Tells how much is written.
struct Told<'w, T> {
    out: &'w mut dyn Write,
    tell: T,
}

impl<T: FnMut(usize)> Write for Told<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        (self.tell)(written);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
