//! `PolicyService`.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use crate::usecase::{ReloadOutcome, Reloader};

use super::convert;
use super::deadline::Deadline;
use super::proto::policy_service_server::PolicyService;
use super::proto::{
    ErrorReason, GetPolicyStatusRequest, GetPolicyStatusResponse, ReloadPoliciesRequest,
    ReloadPoliciesResponse,
};
use super::status::ClientError;

/// Serves the state of the policies.
#[derive(Clone, Debug)]
pub struct PolicyApi {
    reloader: Arc<Reloader>,
}

impl PolicyApi {
    /// Serves the state that `reloader` keeps.
    pub fn new(reloader: Arc<Reloader>) -> Self {
        Self { reloader }
    }

    async fn load(&self) -> Result<ReloadPoliciesResponse, ClientError> {
        let reloader = Arc::clone(&self.reloader);
        let internal =
            |message: &str| ClientError::new(Code::Internal, ErrorReason::Internal, message);
        let outcome = tokio::task::spawn_blocking(move || reloader.reload())
            .await
            .map_err(|_| internal("the reload did not end"))?;
        let changed = match outcome {
            ReloadOutcome::Rejected(problems) => return Err(ClientError::load_failed(&problems)),
            ReloadOutcome::Activated => true,
            ReloadOutcome::Unchanged => false,
        };
        let active = self.reloader.active().load_full();
        Ok(ReloadPoliciesResponse {
            active: active.as_deref().map(convert::policy_set),
            changed,
        })
    }
}

#[tonic::async_trait]
impl PolicyService for PolicyApi {
    async fn get_policy_status(
        &self,
        _request: Request<GetPolicyStatusRequest>,
    ) -> Result<Response<GetPolicyStatusResponse>, Status> {
        Ok(Response::new(GetPolicyStatusResponse {
            active: self
                .reloader
                .active()
                .load_full()
                .as_deref()
                .map(convert::policy_set),
            last_attempt: self.reloader.last_attempt().as_ref().map(convert::attempt),
        }))
    }

    async fn reload_policies(
        &self,
        request: Request<ReloadPoliciesRequest>,
    ) -> Result<Response<ReloadPoliciesResponse>, Status> {
        let response = Deadline::of(&request).keep(self.load()).await??;
        Ok(Response::new(response))
    }
}
