//! Everything that is served, each service with the size its messages may have.

use std::convert::Infallible;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::{Builder, Error};
use tower::Service;

use crate::usecase::callers::Method;
use crate::usecase::observing::RefusalKind;
use crate::usecase::{Authorizer, Reloader};

use super::access::{Access, Arriving, Connection, Gatekeeper};
use super::deadline::Deadline;
use super::limits::{CallerKey, FairGate, FairSettings};
use super::proto::DESCRIPTORS;
use super::proto::approval_service_server::ApprovalServiceServer;
use super::proto::audit_service_server::AuditServiceServer;
use super::proto::authorization_service_server::AuthorizationServiceServer;
use super::proto::policy_service_server::PolicyServiceServer;
use super::seen::{Call, method_of};
use super::status::ClientError;
use super::unary::{BatchCalls, BoxedFuture, SingleCalls};
use super::{ApprovalApi, AuditApi, AuthorizationApi, MAX_AUTHORIZE_BYTES, PolicyApi};

/// As how many decisions the check of a token counts.
const TOKEN_CHECK: u32 = 10;

/// Answers a call; there is always an answer.
type Answered = Result<http::Response<Body>, Infallible>;

/// Everything that is served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    decisions: AuthorizationApi,
    others: Routes,
    gatekeeper: Arc<Gatekeeper>,
    gate: FairGate,
}

impl Api {
    /// The public services, `health`, and reflection for all of them, for those whom `gatekeeper` lets in.
    ///
    /// # Errors
    /// When the descriptors that reflection shows cannot be read.
    pub fn new<H: Health>(
        (authorizer, reloader): (&Arc<Authorizer>, &Arc<Reloader>),
        (approvals, audit): (ApprovalApi, AuditApi),
        health: HealthServer<H>,
        gatekeeper: Arc<Gatekeeper>,
    ) -> Result<Self, Error> {
        let decisions = AuthorizationApi::new(Arc::clone(authorizer));
        let others = AuthorizationServiceServer::new(decisions.clone())
            .max_decoding_message_size(MAX_AUTHORIZE_BYTES);
        let policy = PolicyServiceServer::new(PolicyApi::new(Arc::clone(reloader)));
        let reflection = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let others = Routes::new(others)
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
        Ok(Self {
            decisions,
            others: others.prepare(),
            gatekeeper,
            gate: FairGate::new(FairSettings::default()),
        })
    }

    /// The same for one serving thread, where callers take turns at `gate` as long as somebody runs it there.
    #[must_use]
    pub fn taking_turns_at(&self, gate: FairGate) -> Self {
        Self {
            gate,
            ..self.clone()
        }
    }

    /// Who lets calls in.
    pub fn gatekeeper(&self) -> &Arc<Gatekeeper> {
        &self.gatekeeper
    }

    /// Answers one call that came by `connection`.
    pub fn call<B>(
        &self,
        connection: &Arc<Connection>,
        request: http::Request<B>,
    ) -> BoxedFuture<Answered>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let since = Instant::now();
        let Some(method) = method_of(request.uri().path()) else {
            return self.open_call(since, request);
        };
        let arriving = Arriving {
            connection,
            method,
            headers: request.headers(),
            since,
        };
        match self.gatekeeper.admit_at_once(&arriving) {
            Ok(Ok(access)) => self.serve(access, request),
            Ok(Err(token)) => {
                let token = token.to_owned();
                self.verify_and_serve((Arc::clone(connection), method, since), token, request)
            }
            Err(error) => {
                let answer = Status::from(error).into_http();
                Call::of(method, &self.gatekeeper, since, request.headers()).answered(&answer);
                Box::pin(std::future::ready(Ok(answer)))
            }
        }
    }

    /// Finds out who shows `token`, and serves them.
    fn verify_and_serve<B>(
        &self,
        (connection, method, since): (Arc<Connection>, Method, Instant),
        token: String,
        request: http::Request<B>,
    ) -> BoxedFuture<Answered>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let api = self.clone();
        let headers: HeaderMap = request.headers().clone();
        Box::pin(async move {
            let arriving = Arriving {
                connection: &connection,
                method,
                headers: &headers,
                since,
            };
            match api.verify(&arriving, &token).await {
                Ok(access) => api.serve(access, request).await,
                Err(error) => {
                    let answer = Status::from(error).into_http();
                    Call::of(method, &api.gatekeeper, since, &headers).answered(&answer);
                    Ok(answer)
                }
            }
        })
    }

    /// Finds out who shows `token`, when it is the turn of whoever has the connection: that costs about as much as ten decisions,
    /// whether the token is good or not.
    async fn verify(&self, arriving: &Arriving<'_>, token: &str) -> Result<Access, ClientError> {
        let deadline = Deadline::of_headers(arriving.headers, arriving.since);
        let caller = CallerKey::new(arriving.connection.caller_key());
        let turned_away = |kind, error| self.gatekeeper.turned_away(arriving, None, kind, error);
        if let Err(away) = self.gate.enter(caller, deadline.instant()).await {
            let kind = RefusalKind::from(away);
            return Err(turned_away(kind, away.into()));
        }
        self.gate.charge(caller, TOKEN_CHECK);
        let admitted = deadline.keep(self.gatekeeper.admit_with(arriving, token));
        admitted
            .await
            .map_err(|late| turned_away(RefusalKind::DeadlinePassed, late))?
    }

    fn serve<B>(&self, access: Access, mut request: http::Request<B>) -> BoxedFuture<Answered>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let method = access.method;
        if !method.decides() {
            let call = Call::of(method, &self.gatekeeper, access.since, request.headers());
            request.extensions_mut().insert(access.clone());
            let answer = self.others.clone().call(request);
            return Box::pin(async move {
                let answer = answer.await?;
                call.answered(&answer);
                // It counts as under way until here.
                drop(access);
                Ok(answer)
            });
        }
        // What decides takes turns, and what is asked most does not pass the router: looking the path up and cloning the service
        // costs 0.3 us.
        if method == Method::AUTHORIZE {
            SingleCalls(self.decisions.clone(), access).serve(&self.gate, request)
        } else if method == Method::BATCH_AUTHORIZE {
            BatchCalls(self.decisions.clone(), access).serve(&self.gate, request)
        } else {
            let key = CallerKey::new(access.identity.key);
            let turn = self.gate.enter(key, access.deadline.instant());
            let call = Call::of(method, &self.gatekeeper, access.since, request.headers());
            request.extensions_mut().insert(access.clone());
            let answer = self.others.clone().call(request);
            Box::pin(async move {
                let answer = match turn.await {
                    Ok(_pass) => answer.await?,
                    Err(away) => access.sent_away(away).into_http(),
                };
                call.answered(&answer);
                Ok(answer)
            })
        }
    }

    /// What everybody may call: health and reflection; and what does not exist.
    fn open_call<B>(&self, since: Instant, request: http::Request<B>) -> BoxedFuture<Answered>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let call = Call::open(&self.gatekeeper, since, &request);
        let answer = self.others.clone().call(request);
        Box::pin(async move {
            let answer = answer.await?;
            call.answered(&answer);
            Ok(answer)
        })
    }
}
