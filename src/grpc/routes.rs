//! Everything that is served, each service with the size its messages may have.

use std::sync::Arc;

use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::{Builder, Error};

use crate::usecase::{Authorizer, Reloader};

use super::proto::DESCRIPTORS;
use super::proto::authorization_service_server::AuthorizationServiceServer;
use super::proto::policy_service_server::PolicyServiceServer;
use super::unary::{BatchCalls, SingleCalls};
use super::{AuthorizationApi, MAX_AUTHORIZE_BYTES, PolicyApi};

const SINGLE_PATH: &str = "/countersign.v1.AuthorizationService/Authorize";
const BATCH_PATH: &str = "/countersign.v1.AuthorizationService/BatchAuthorize";

/// The public services, `health`, and reflection for all of them.
///
/// # Errors
/// When the descriptors that reflection shows cannot be read.
pub fn routes<H: Health>(
    authorizer: &Arc<Authorizer>,
    reloader: &Arc<Reloader>,
    health: HealthServer<H>,
) -> Result<Routes, Error> {
    let api = AuthorizationApi::new(Arc::clone(authorizer));
    let others =
        AuthorizationServiceServer::new(api.clone()).max_decoding_message_size(MAX_AUTHORIZE_BYTES);
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::new(others)
        .add_service(PolicyServiceServer::new(PolicyApi::new(Arc::clone(
            reloader,
        ))))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let paths = routes.axum_router_mut();
    // A message decodes to a hundred times its size, so only the batch may be large.
    *paths = std::mem::take(paths)
        .route_service(SINGLE_PATH, SingleCalls(api.clone()))
        .route_service(BATCH_PATH, BatchCalls(api));
    Ok(routes.prepare())
}
