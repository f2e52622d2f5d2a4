//! `AuthorizationService`.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::model::RequestLimits;
use crate::usecase::{ActiveSnapshot, Authorized, Authorizer, Step};

use super::access::Access;
use super::answer::{Answer, BatchAnswer};
use super::convert;
use super::proto::authorization_service_server::AuthorizationService;
use super::proto::batch_authorize_result::Result as BatchItem;
use super::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeError, BatchAuthorizeRequest,
    BatchAuthorizeResponse, BatchAuthorizeResult, ErrorReason, ExplainRequest, ExplainResponse,
};
use super::status::ClientError;
use super::unary::Answering;
use super::{request, seen};

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
    pub(super) fn answer(
        &self,
        access: &Access,
        request: Request<AuthorizeRequest>,
    ) -> Answering<Answer> {
        let deadline = access.deadline;
        let waiting = match self.begin(request.into_inner(), access) {
            Ok(Step::Done(_)) if deadline.has_passed() => {
                return Answering::failed(ClientError::deadline_exceeded());
            }
            Ok(Step::Done(authorized)) => {
                seen::decided(access, &authorized);
                return Answering::done(Answer::of(authorized));
            }
            Err(error) => return Answering::failed(error),
            Ok(Step::Waits(waiting)) => waiting,
        };
        let authorizer = Arc::clone(&self.authorizer);
        let access = access.clone();
        Answering::Waits(Box::pin(async move {
            let authorized = deadline.keep(authorizer.finish(waiting)).await?;
            let authorized = authorized.map_err(ClientError::from)?;
            seen::decided(&access, &authorized);
            Ok(Response::new(Answer::of(authorized)))
        }))
    }

    fn begin(&self, asked: AuthorizeRequest, access: &Access) -> Result<Step, ClientError> {
        let active = self.authorizer.active()?;
        let request = read(asked, access)?;
        Ok(self.authorizer.begin(&active, request)?)
    }

    /// Answers `BatchAuthorize`.
    pub(super) async fn answer_batch(
        &self,
        access: &Access,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<BatchAnswer, ClientError> {
        let results = self.decide_batch(access, request).await?;
        let results = results.into_iter();
        Ok(BatchAnswer(
            results.map(|result| result.map(Answer::of)).collect(),
        ))
    }

    async fn decide_batch(
        &self,
        access: &Access,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Vec<Result<Authorized, BatchAuthorizeError>>, ClientError> {
        let batch = request.into_inner();
        let deciding = self.decide_items(batch, access);
        access.deadline.keep(deciding).await?
    }

    async fn decide_items(
        &self,
        batch: BatchAuthorizeRequest,
        access: &Access,
    ) -> Result<Vec<Result<Authorized, BatchAuthorizeError>>, ClientError> {
        check_batch(batch.requests.len())?;
        let active = self.authorizer.active()?;
        let mut results = Vec::with_capacity(batch.requests.len());
        for (index, asked) in batch.requests.into_iter().enumerate() {
            let result = self.decide_item(&active, asked, access).await;
            if let Ok(authorized) = &result {
                seen::decided(access, authorized);
            }
            results.push(result.map_err(|error| error.into_batch_error(index)));
        }
        Ok(results)
    }

    async fn decide_item(
        &self,
        active: &Arc<ActiveSnapshot>,
        asked: AuthorizeRequest,
        access: &Access,
    ) -> Result<Authorized, ClientError> {
        check_size(&asked)?;
        let request = read(asked, access)?;
        Ok(self.authorizer.authorize_with(active, request).await?)
    }

    async fn take_apart(
        &self,
        asked: ExplainRequest,
        access: &Access,
    ) -> Result<ExplainResponse, ClientError> {
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
        let request = read(asked, access)?;
        let (authorized, explanation) = self.authorizer.explain(request).await?;
        Ok(convert::explanation(&authorized, explanation))
    }
}

/// Reads what is asked, if the caller may ask it.
fn read(asked: AuthorizeRequest, access: &Access) -> Result<crate::model::Request, ClientError> {
    let mut request = request::read(asked)?;
    access.vouch(&mut request)?;
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
        let access = Access::of(&request)?;
        let asked = read(request.into_inner(), &access)?;
        let authorized = access
            .deadline
            .keep(self.authorizer.authorize(asked))
            .await?;
        let authorized = authorized.map_err(ClientError::from)?;
        seen::decided(&access, &authorized);
        Ok(Response::new(convert::response(&authorized)))
    }

    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let access = Access::of(&request)?;
        let results = self.decide_batch(&access, request).await?;
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
        let access = Access::of(&request)?;
        let explaining = self.take_apart(request.into_inner(), &access);
        let response = access.deadline.keep(explaining).await??;
        Ok(Response::new(response))
    }
}
