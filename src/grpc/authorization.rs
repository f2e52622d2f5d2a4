//! `AuthorizationService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::model::RequestLimits;
use crate::usecase::{ActiveSnapshot, Authorizer};

use super::convert;
use super::deadline::Deadline;
use super::proto::authorization_service_server::AuthorizationService;
use super::proto::batch_authorize_result::Result as BatchItem;
use super::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeRequest, BatchAuthorizeResponse,
    BatchAuthorizeResult, ErrorReason, ExplainRequest, ExplainResponse,
};
use super::request;
use super::status::ClientError;

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

    async fn decide(&self, asked: AuthorizeRequest) -> Result<AuthorizeResponse, ClientError> {
        let authorized = self.authorizer.authorize(request::read(asked)?).await?;
        Ok(convert::response(&authorized))
    }

    async fn decide_item(
        &self,
        active: &Arc<ActiveSnapshot>,
        asked: AuthorizeRequest,
    ) -> Result<AuthorizeResponse, ClientError> {
        let authorized = self
            .authorizer
            .authorize_with(active, request::read(asked)?)
            .await?;
        Ok(convert::response(&authorized))
    }

    async fn decide_batch(
        &self,
        batch: BatchAuthorizeRequest,
    ) -> Result<BatchAuthorizeResponse, ClientError> {
        check_batch(batch.requests.len())?;
        let active = self.authorizer.active()?;
        let mut results = Vec::with_capacity(batch.requests.len());
        for (index, asked) in batch.requests.into_iter().enumerate() {
            let item = match self.decide_item(&active, asked).await {
                Ok(response) => BatchItem::Response(response),
                Err(error) => BatchItem::Error(error.into_batch_error(index)),
            };
            results.push(BatchAuthorizeResult { result: Some(item) });
        }
        Ok(BatchAuthorizeResponse { results })
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
        let response = deadline.keep(self.decide(request.into_inner())).await??;
        Ok(Response::new(response))
    }

    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let response = deadline
            .keep(self.decide_batch(request.into_inner()))
            .await??;
        Ok(Response::new(response))
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
