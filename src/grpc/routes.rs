//! Everything that is served, each service with the size its messages may have.

use std::convert::Infallible;
use std::sync::Arc;

use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::{Builder, Error};
use tower::Service;

use crate::usecase::{Authorizer, Reloader};

use super::proto::DESCRIPTORS;
use super::proto::approval_service_server::ApprovalServiceServer;
use super::proto::audit_service_server::AuditServiceServer;
use super::proto::authorization_service_server::AuthorizationServiceServer;
use super::proto::policy_service_server::PolicyServiceServer;
use super::unary::{BatchCalls, BoxedFuture, SingleCalls};
use super::{ApprovalApi, AuditApi, AuthorizationApi, MAX_AUTHORIZE_BYTES, PolicyApi};

const SINGLE_PATH: &str = "/countersign.v1.AuthorizationService/Authorize";
const BATCH_PATH: &str = "/countersign.v1.AuthorizationService/BatchAuthorize";

/// Everything that is served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    single: SingleCalls,
    others: Routes,
}

impl Api {
    /// The public services, `health`, and reflection for all of them.
    ///
    /// # Errors
    /// When the descriptors that reflection shows cannot be read.
    pub fn new<H: Health>(
        authorizer: &Arc<Authorizer>,
        reloader: &Arc<Reloader>,
        (approvals, audit): (ApprovalApi, AuditApi),
        health: HealthServer<H>,
    ) -> Result<Self, Error> {
        let api = AuthorizationApi::new(Arc::clone(authorizer));
        let single = SingleCalls(api.clone());
        let others = AuthorizationServiceServer::new(api.clone())
            .max_decoding_message_size(MAX_AUTHORIZE_BYTES);
        let policy = PolicyServiceServer::new(PolicyApi::new(Arc::clone(reloader)));
        let reflection = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut others = Routes::new(others)
            .add_service(
                ApprovalServiceServer::new(approvals)
                    .max_decoding_message_size(MAX_AUTHORIZE_BYTES),
            )
            .add_service(policy)
            .add_service(
                AuditServiceServer::new(audit).max_decoding_message_size(MAX_AUTHORIZE_BYTES),
            )
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let paths = others.axum_router_mut();
        // A message decodes to a hundred times its size, so only the batch may be large.
        *paths = std::mem::take(paths).route_service(BATCH_PATH, BatchCalls(api));
        Ok(Self {
            single,
            others: others.prepare(),
        })
    }

    /// Answers one call.
    pub fn call<B>(
        &self,
        request: http::Request<B>,
    ) -> BoxedFuture<Result<http::Response<Body>, Infallible>>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        // What is asked most does not pass the router: looking the path up and cloning the service costs 0.3 us.
        if request.uri().path() == SINGLE_PATH {
            return self.single.clone().call(request);
        }
        Box::pin(self.others.clone().call(request))
    }
}
