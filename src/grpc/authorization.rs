//! `AuthorizationService`.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::model::RequestLimits;
use crate::usecase::{ActiveSnapshot, Authorized, Authorizer, Step};

use super::answer::{Answer, BatchAnswer};
use super::convert;
use super::deadline::Deadline;
use super::proto::authorization_service_server::AuthorizationService;
use super::proto::batch_authorize_result::Result as BatchItem;
use super::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeError, BatchAuthorizeRequest,
    BatchAuthorizeResponse, BatchAuthorizeResult, ErrorReason, ExplainRequest, ExplainResponse,
};
use super::request;
use super::status::ClientError;
use super::trace::trace_id;
use super::unary::Answering;

/// Serves decisions.
#[derive(Clone, Debug)]
pub struct AuthorizationApi {
    authorizer: Arc<Authorizer>,
}

impl AuthorizationApi {
    /// Serves the decisions of `authorizer`.
    pub fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }

    /// Answers `Authorize`, at once if nothing must be waited for.
    pub(super) fn answer(&self, request: Request<AuthorizeRequest>) -> Answering<Answer> {
        let deadline = Deadline::of(request.metadata());
        let trace = trace_id(request.metadata());
        let step = self.begin(request.into_inner(), trace);
        let waiting = match step {
            Ok(Step::Done(_)) if deadline.has_passed() => {
                return Answering::failed(ClientError::deadline_exceeded());
            }
            Ok(Step::Done(authorized)) => return Answering::done(Answer::of(authorized)),
            Err(error) => return Answering::failed(error),
            Ok(Step::Waits(waiting)) => waiting,
        };
        let authorizer = Arc::clone(&self.authorizer);
        Answering::Waits(Box::pin(async move {
            let authorized = deadline.keep(authorizer.finish(waiting)).await?;
            let authorized = authorized.map_err(ClientError::from)?;
            Ok(Response::new(Answer::of(authorized)))
        }))
    }

    fn begin(&self, asked: AuthorizeRequest, trace: Trace) -> Result<Step, ClientError> {
        let active = self.authorizer.active()?;
        Ok(self.authorizer.begin(&active, read(asked, trace)?)?)
    }

    /// Answers `BatchAuthorize`.
    pub(super) async fn answer_batch(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<BatchAnswer, ClientError> {
        let deadline = Deadline::of(request.metadata());
        let trace = trace_id(request.metadata());
        let results = deadline
            .keep(self.decide_batch(request.into_inner(), trace))
            .await??;
        Ok(BatchAnswer(
            results
                .into_iter()
                .map(|result| result.map(Answer::of))
                .collect(),
        ))
    }

    async fn decide(
        &self,
        asked: AuthorizeRequest,
        trace: Trace,
    ) -> Result<Authorized, ClientError> {
        Ok(self.authorizer.authorize(read(asked, trace)?).await?)
    }

    async fn decide_batch(
        &self,
        batch: BatchAuthorizeRequest,
        trace: Trace,
    ) -> Result<Vec<Result<Authorized, BatchAuthorizeError>>, ClientError> {
        check_batch(batch.requests.len())?;
        let active = self.authorizer.active()?;
        let mut results = Vec::with_capacity(batch.requests.len());
        for (index, asked) in batch.requests.into_iter().enumerate() {
            let result = self.decide_item(&active, asked, trace).await;
            results.push(result.map_err(|error| error.into_batch_error(index)));
        }
        Ok(results)
    }

    async fn decide_item(
        &self,
        active: &Arc<ActiveSnapshot>,
        asked: AuthorizeRequest,
        trace: Trace,
    ) -> Result<Authorized, ClientError> {
        check_size(&asked)?;
        let request = read(asked, trace)?;
        Ok(self.authorizer.authorize_with(active, request).await?)
    }

    async fn take_apart(&self, asked: ExplainRequest) -> Result<ExplainResponse, ClientError> {
        let Some(asked) = asked.request else {
            return Err(ClientError {
                field: "request".to_owned(),
                ..ClientError::new(
                    tonic::Code::InvalidArgument,
                    ErrorReason::InvalidRequest,
                    "`request`: is required",
                )
            });
        };
        let (authorized, explanation) = self.authorizer.explain(request::read(asked)?).await?;
        Ok(convert::explanation(&authorized, explanation))
    }
}

/// The trace that a call belongs to.
type Trace = Option<[u8; 16]>;

fn read(asked: AuthorizeRequest, trace: Trace) -> Result<crate::model::Request, ClientError> {
    let mut request = request::read(asked)?;
    request.trace_id = trace;
    Ok(request)
}

/// The largest request in a batch, in bytes: what is recorded of it must fit in the log.
const MAX_ITEM_BYTES: usize = 256 * 1024;

/// A request in a batch may be larger than one alone, but not as large as the batch.
fn check_size(asked: &AuthorizeRequest) -> Result<(), ClientError> {
    let bytes = asked.encoded_len();
    if bytes <= MAX_ITEM_BYTES {
        return Ok(());
    }
    let message = format!("has {bytes} bytes, more than {MAX_ITEM_BYTES}");
    Err(ClientError::new(
        tonic::Code::InvalidArgument,
        ErrorReason::LimitExceeded,
        message,
    ))
}

fn check_batch(count: usize) -> Result<(), ClientError> {
    let limit = RequestLimits::DEFAULT.batch;
    if count <= limit {
        return Ok(());
    }
    let message = format!("`requests`: has {count} requests, more than {limit}");
    Err(ClientError {
        field: "requests".to_owned(),
        ..ClientError::new(
            tonic::Code::InvalidArgument,
            ErrorReason::LimitExceeded,
            message,
        )
    })
}

#[tonic::async_trait]
impl AuthorizationService for AuthorizationApi {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let trace = trace_id(request.metadata());
        let authorized = deadline
            .keep(self.decide(request.into_inner(), trace))
            .await??;
        Ok(Response::new(convert::response(&authorized)))
    }

    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let trace = trace_id(request.metadata());
        let results = deadline
            .keep(self.decide_batch(request.into_inner(), trace))
            .await??;
        let results = results.into_iter().map(|result| BatchAuthorizeResult {
            result: Some(match result {
                Ok(authorized) => BatchItem::Response(convert::response(&authorized)),
                Err(error) => BatchItem::Error(error),
            }),
        });
        Ok(Response::new(BatchAuthorizeResponse {
            results: results.collect(),
        }))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let response = deadline
            .keep(self.take_apart(request.into_inner()))
            .await??;
        Ok(Response::new(response))
    }
}
