//! Lets calls in, or turns them away, before anything is done for them.
//!
//! INVARIANT (bound-or-refused): every call but health and reflection passes here, and every request to decide passes
//! [`Access::vouch`].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::approval::Person;
use crate::audit::refusal_record::RefusalFacts;
use crate::model::{EntityRef, Request, TraceContext};
use crate::usecase::Refusals;
use crate::usecase::callers::{BindingLimits, Everybody, Identity, Method};
use crate::usecase::observing::{NoObserver, Observer, RefusalKind};
use crate::usecase::ports::{Authentication, Clock, NotAuthenticated, Peer};

use super::deadline::Deadline;
use super::limits::{CallerKey, CallerLimits, Limit, Limited, Permit, RateSettings, TurnedAway};
use super::proto::ErrorReason;
use super::status::ClientError;
use super::trace;

const BEARER: &str = "Bearer ";
/// The longest `authorization` header that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// A connection, with who its peer is before a call says more.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    identity: Arc<Identity>,
    is_distrusted: AtomicBool,
}

impl Connection {
    /// Lets in no call any more: what the peer showed does not count.
    pub fn distrust(&self) {
        self.is_distrusted.store(true, Ordering::Release);
    }

    /// Tells this caller apart where connections are counted.
    pub fn caller_key(&self) -> u64 {
        self.identity.key
    }
}

/// Lets calls in, or turns them away.
#[derive(Debug)]
pub struct Gatekeeper {
    authentication: Arc<dyn Authentication>,
    limits: CallerLimits,
    refusals: Arc<Refusals>,
    pub(super) observer: Arc<dyn Observer>,
}

/// A call that was let in.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) identity: Arc<Identity>,
    pub(super) connection: Arc<Connection>,
    pub(super) gatekeeper: Arc<Gatekeeper>,
    pub(super) method: Method,
    /// When the call came.
    pub(super) since: Instant,
    /// Until when its answer is waited for.
    pub(super) deadline: Deadline,
    /// The span that it was made from.
    pub(super) trace: Option<TraceContext>,
    /// Counts the call as under way.
    _permit: Option<Arc<Permit>>,
}

/// A call on its way in.
pub(super) struct Arriving<'a> {
    pub(super) connection: &'a Arc<Connection>,
    pub(super) method: Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) since: Instant,
}

impl Gatekeeper {
    /// Tells callers by `authentication`, and notes whom it turns away in `refusals`.
    pub fn new(
        authentication: Arc<dyn Authentication>,
        refusals: Arc<Refusals>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            authentication,
            limits: CallerLimits::default(),
            refusals,
            observer,
        }
    }

    /// Lets everybody in, and notes nothing: for what is called without a connection.
    pub fn for_everybody(clock: Arc<dyn Clock>) -> Self {
        let observer: Arc<dyn Observer> = Arc::new(NoObserver);
        let refusals = Refusals::new(None, Arc::clone(&observer), clock);
        Self::new(Arc::<Everybody>::default(), Arc::new(refusals), observer)
    }

    /// The access of a call of `method` by `identity` that did not come by a connection.
    pub fn access(self: &Arc<Self>, identity: Arc<Identity>, method: Method) -> Access {
        let connection = Connection {
            peer: Peer::Local { user: None },
            identity: Arc::clone(&identity),
            is_distrusted: AtomicBool::new(false),
        };
        Access {
            identity,
            connection: Arc::new(connection),
            gatekeeper: Arc::clone(self),
            method,
            since: Instant::now(),
            deadline: Deadline::NONE,
            trace: None,
            _permit: None,
        }
    }

    /// `message` as a call of `method` that comes by no connection, to be handed to a service directly. For everybody.
    pub fn let_in<T>(self: &Arc<Self>, method: Method, message: T) -> tonic::Request<T> {
        let nobody = self.authentication.peer(&Peer::Local { user: None });
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(self.access(nobody, method));
        request
    }

    /// A peer has connected.
    pub fn connected(&self, peer: Peer) -> Arc<Connection> {
        let identity = self.authentication.peer(&peer);
        Arc::new(Connection {
            peer,
            identity,
            is_distrusted: AtomicBool::new(false),
        })
    }

    /// Forgets callers that have not called for long; to be called now and then.
    pub fn tidy(&self) {
        self.limits.tick();
    }

    /// Lets `arriving` in, if it can be told at once who calls; otherwise answers the token that must be looked at.
    pub(super) fn admit_at_once<'h>(
        self: &Arc<Self>,
        arriving: &Arriving<'h>,
    ) -> Result<Result<Access, &'h str>, ClientError> {
        if arriving.connection.is_distrusted.load(Ordering::Acquire) {
            let error = ClientError::unauthenticated(
                "what this connection was opened with does not count any more",
            );
            return Err(self.turned_away(arriving, None, RefusalKind::Unauthenticated, error));
        }
        let identity = match bearer(arriving.headers) {
            Ok(None) => Arc::clone(&arriving.connection.identity),
            Ok(Some(token)) => match self.authentication.known(token) {
                Some(identity) => identity,
                None => return Ok(Err(token)),
            },
            Err(error) => {
                return Err(self.turned_away(arriving, None, RefusalKind::Unauthenticated, error));
            }
        };
        self.admit(arriving, identity).map(Ok)
    }

    /// Lets `arriving` in, if `token` is good.
    pub(super) async fn admit_with(
        self: &Arc<Self>,
        arriving: &Arriving<'_>,
        token: &str,
    ) -> Result<Access, ClientError> {
        match self.authentication.verify(token).await {
            Ok(identity) => self.admit(arriving, identity),
            Err(fault) => {
                let error = not_authenticated(&fault);
                Err(self.turned_away(arriving, None, RefusalKind::Unauthenticated, error))
            }
        }
    }

    fn admit(
        self: &Arc<Self>,
        arriving: &Arriving<'_>,
        identity: Arc<Identity>,
    ) -> Result<Access, ClientError> {
        let method = arriving.method;
        if !identity.may_call(method) {
            let (kind, error) = not_permitted(&identity, method);
            return Err(self.turned_away(arriving, Some(&identity), kind, error));
        }
        let permit = self.count(&identity, method).map_err(|limited| {
            let (kind, error) = limit_reached(limited);
            self.turned_away(arriving, Some(&identity), kind, error)
        })?;
        Ok(Access {
            identity,
            connection: Arc::clone(arriving.connection),
            gatekeeper: Arc::clone(self),
            method,
            since: arriving.since,
            deadline: Deadline::of_headers(arriving.headers, arriving.since),
            trace: trace::of_headers(arriving.headers),
            _permit: permit.map(Arc::new),
        })
    }

    /// Counts a call against the limits of its caller, where it has any.
    fn count(&self, identity: &Identity, method: Method) -> Result<Option<Permit>, Limited> {
        let limits = identity.limits(method);
        if limits == BindingLimits::default() {
            return Ok(None);
        }
        let settings = RateSettings {
            per_second: limits.calls_per_second,
            burst: limits.burst,
            concurrency: limits.concurrent_calls.map(NonZeroU32::get),
        };
        self.limits
            .admit(CallerKey::new(identity.key), &settings)
            .map(Some)
    }

    /// Notes that a call is turned away, and answers why.
    pub(super) fn turned_away(
        &self,
        arriving: &Arriving<'_>,
        identity: Option<&Identity>,
        kind: RefusalKind,
        error: ClientError,
    ) -> ClientError {
        let identity = identity.unwrap_or(&arriving.connection.identity);
        let facts = RefusalFacts {
            detail: &error.message,
            method: &arriving.method.to_string(),
            caller: &identity.caller,
            peer: arriving.connection.peer.address(),
            trace: trace::of_headers(arriving.headers),
            ..RefusalFacts::default()
        };
        self.refusals.note(kind, &facts);
        error
    }
}

impl Access {
    /// The access of the call that `request` belongs to.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a call that did not come in by the gate; none does.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Self, ClientError> {
        let access = request.extensions().get::<Self>();
        access
            .cloned()
            .ok_or_else(|| ClientError::unauthenticated("nobody knows who calls"))
    }

    /// Whether a binding that is not for everybody lets the caller call this.
    pub(super) fn is_named(&self) -> bool {
        self.identity.is_named_for(self.method)
    }

    /// Notes that the call was sent away from its turn, and answers why.
    pub(super) fn sent_away(&self, away: TurnedAway) -> Status {
        let error = ClientError::from(away);
        self.note(away.into(), &error.message, None);
        error.into()
    }

    /// The person who calls; none if it is a service.
    pub(super) fn person(&self) -> Option<Person> {
        self.identity.person.clone()
    }

    /// The person who calls.
    ///
    /// # Errors
    /// When it is none: UNAUTHENTICATED without a credential, `PERMISSION_DENIED` with that of a service or of one who acts for another.
    pub(super) fn required_person(&self) -> Result<Person, ClientError> {
        let identity = &self.identity;
        if let Some(person) = &identity.person {
            return Ok(person.clone());
        }
        if identity.caller.is_empty() {
            return Err(ClientError::unauthenticated(
                "this is for a person to do: send a credential in `authorization`",
            ));
        }
        let message = if identity.delegation.is_some() {
            "this is for a person to do, and the credential is that of one who acts for another"
        } else {
            "this is for a person to do, and the credential is a service's"
        };
        Err(ClientError::new(
            Code::PermissionDenied,
            ErrorReason::CallerNotPermitted,
            message,
        ))
    }

    /// Puts into `request` who calls and for whom, if the caller may speak for its principal.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, and the refusal is noted.
    pub(super) fn vouch(&self, request: &mut Request) -> Result<(), ClientError> {
        let identity = &self.identity;
        if let Some(delegation) = &identity.delegation
            && let Err(fault) = delegation.apply(request)
        {
            return Err(self.not_bound(request, fault.to_string()));
        }
        if !identity.may_speak_for(self.method, &request.principal) {
            let message = format!(
                "`principal`: no binding of this server lets {} speak for {}",
                described(identity),
                request.principal
            );
            return Err(self.not_bound(request, message));
        }
        request.caller.clone_from(&identity.caller);
        request.trace = self.trace;
        Ok(())
    }

    fn not_bound(&self, request: &Request, message: String) -> ClientError {
        let principal = Some(&request.principal);
        self.note(RefusalKind::NotBound, &message, principal);
        ClientError::new(
            Code::PermissionDenied,
            ErrorReason::PrincipalNotBound,
            message,
        )
    }

    fn note(&self, kind: RefusalKind, detail: &str, principal: Option<&EntityRef>) {
        let facts = RefusalFacts {
            detail,
            method: &self.method.to_string(),
            caller: &self.identity.caller,
            principal,
            peer: self.connection.peer.address(),
            trace: self.trace,
            ..RefusalFacts::default()
        };
        self.gatekeeper.refusals.note(kind, &facts);
    }
}

impl From<TurnedAway> for RefusalKind {
    fn from(away: TurnedAway) -> Self {
        match away {
            TurnedAway::DeadlinePassed => Self::DeadlinePassed,
            TurnedAway::WaitedTooLong | TurnedAway::TooManyWaiting => Self::Overloaded,
        }
    }
}

/// The bearer token in `headers`, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ClientError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let token = value
        .to_str()
        .ok()
        .filter(|value| value.len() <= MAX_CREDENTIAL_BYTES)
        .and_then(|value| value.strip_prefix(BEARER));
    match (token, values.next()) {
        (Some(token), None) => Ok(Some(token)),
        (None, _) | (Some(_), Some(_)) => Err(ClientError::unauthenticated(
            "`authorization` is not `Bearer` and one credential",
        )),
    }
}

fn not_authenticated(fault: &NotAuthenticated) -> ClientError {
    match fault {
        NotAuthenticated::BadCredential(message) => ClientError::unauthenticated(message),
        NotAuthenticated::CannotTell(message) => ClientError::new(
            Code::Unavailable,
            ErrorReason::CredentialNotChecked,
            message,
        ),
    }
}

fn not_permitted(identity: &Identity, method: Method) -> (RefusalKind, ClientError) {
    if identity.caller.is_empty() && identity.person.is_none() {
        let message =
            "no credential was sent, and this server has no binding for callers without one";
        return (
            RefusalKind::Unauthenticated,
            ClientError::unauthenticated(message),
        );
    }
    let message = format!(
        "no binding of this server lets {} call `{method}`",
        described(identity)
    );
    let error = ClientError::new(
        Code::PermissionDenied,
        ErrorReason::CallerNotPermitted,
        message,
    );
    (RefusalKind::NotPermitted, error)
}

fn described(identity: &Identity) -> String {
    match (&identity.person, identity.caller.is_empty()) {
        (Some(person), true) => format!("`{}`", person.subject),
        (None, true) => "callers without a credential".to_owned(),
        (_, false) => format!("`{}`", identity.caller),
    }
}

fn limit_reached(limited: Limited) -> (RefusalKind, ClientError) {
    let (kind, reason, message) = match limited.which {
        Limit::Rate => (
            RefusalKind::RateLimited,
            "calls_per_second",
            "this caller calls more often than its binding lets it",
        ),
        Limit::Concurrency => (
            RefusalKind::Overloaded,
            "concurrent_calls",
            "this caller has more calls under way than its binding lets it",
        ),
    };
    let error = ClientError {
        metadata: [("limit".to_owned(), reason.to_owned())].into(),
        retry_after: Some(limited.retry_after),
        ..ClientError::new(Code::ResourceExhausted, ErrorReason::RateLimited, message)
    };
    (kind, error)
}
