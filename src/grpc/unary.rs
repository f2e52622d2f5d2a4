//! `Authorize` and `BatchAuthorize` as they are served: the same as through the generated service, with answers encoded by `answer`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codec::Codec;
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use super::access::Access;
use super::answer::{Answer, AnswerCodec, BatchAnswer};
use super::limits::{CallerKey, FairGate};
use super::proto::{AuthorizeRequest, BatchAuthorizeRequest};
use super::status::ClientError;
use super::timed::Timed;
use super::{AuthorizationApi, MAX_AUTHORIZE_BYTES, MAX_BATCH_BYTES, seen};

/// A future whose type has no name.
pub type BoxedFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An answer that is there, or on its way. Most are there: a future for them would be built, moved and polled for nothing.
pub(super) enum Answering<T> {
    /// Taken when it is polled.
    Done(Option<Result<Response<T>, Status>>),
    Waits(BoxedFuture<Result<Response<T>, Status>>),
}

impl<T> Answering<T> {
    pub(super) fn done(answer: T) -> Self {
        Self::Done(Some(Ok(Response::new(answer))))
    }

    pub(super) fn failed(error: ClientError) -> Self {
        Self::Done(Some(Err(error.into())))
    }
}

impl<T: Unpin> Future for Answering<T> {
    type Output = Result<Response<T>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Done(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Waits(answer) => answer.as_mut().poll(cx),
        }
    }
}

/// What an ordinary call takes, in microseconds.
const ORDINARY_CALL_US: u128 = 10;
/// As how many calls one counts at most: a thread that was held up by the system is not its caller's fault.
const DEAREST_CALL: u32 = 100;

/// Serves `Authorize` to one caller.
#[derive(Clone, Debug)]
pub(super) struct SingleCalls(pub(super) AuthorizationApi, pub(super) Access);

/// Serves `BatchAuthorize` to one caller.
#[derive(Clone, Debug)]
pub(super) struct BatchCalls(pub(super) AuthorizationApi, pub(super) Access);

impl UnaryService<AuthorizeRequest> for SingleCalls {
    type Response = Answer;
    type Future = Answering<Answer>;

    fn call(&mut self, request: Request<AuthorizeRequest>) -> Self::Future {
        self.0.answer(&self.1, request)
    }
}

impl UnaryService<BatchAuthorizeRequest> for BatchCalls {
    type Response = BatchAnswer;
    type Future = BoxedFuture<Result<Response<BatchAnswer>, Status>>;

    fn call(&mut self, request: Request<BatchAuthorizeRequest>) -> Self::Future {
        let Self(api, access) = self.clone();
        Box::pin(async move { Ok(Response::new(api.answer_batch(&access, request).await?)) })
    }
}

impl SingleCalls {
    /// Answers `request` when it is its turn.
    pub(super) fn serve<B>(self, gate: &FairGate, request: http::Request<B>) -> Served
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let codec = AnswerCodec::<Answer, AuthorizeRequest>::default();
        let access = self.1.clone();
        serve(
            (codec, MAX_AUTHORIZE_BYTES),
            self,
            (access, gate.clone()),
            request,
        )
    }
}

impl BatchCalls {
    /// Answers `request` when it is its turn.
    pub(super) fn serve<B>(self, gate: &FairGate, request: http::Request<B>) -> Served
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let codec = AnswerCodec::<BatchAnswer, BatchAuthorizeRequest>::default();
        let access = self.1.clone();
        serve(
            (codec, MAX_BATCH_BYTES),
            self,
            (access, gate.clone()),
            request,
        )
    }
}

/// An answer that comes whatever happens.
type Served = BoxedFuture<Result<http::Response<Body>, Infallible>>;

fn serve<C, S, B>(
    (codec, max_bytes): (C, usize),
    service: S,
    (access, gate): (Access, FairGate),
    request: http::Request<B>,
) -> Served
where
    C: Codec + Send + 'static,
    C::Encode: Sync,
    C::Decode: Sync,
    S: UnaryService<C::Decode, Response = C::Encode> + Send + 'static,
    S::Future: Send,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let caller = CallerKey::new(access.identity.key);
    let turn = gate.enter(caller, access.deadline.instant());
    Box::pin(async move {
        let answer = match turn.await {
            Ok(_pass) => {
                let mut grpc = Grpc::new(codec).max_decoding_message_size(max_bytes);
                let (answer, busy) = Timed::new(grpc.unary(service, request)).await;
                if let Some(calls) = calls_worth(busy) {
                    gate.charge(caller, calls);
                }
                answer
            }
            Err(away) => access.sent_away(away).into_http(),
        };
        seen::answered(&access, &answer);
        Ok(answer)
    })
}

/// How many ordinary calls a call was worth that kept the thread `busy`; none if it was one itself.
fn calls_worth(busy: Duration) -> Option<u32> {
    let calls = busy.as_micros().checked_div(ORDINARY_CALL_US)?;
    (calls > 2).then(|| u32::try_from(calls).unwrap_or(u32::MAX).min(DEAREST_CALL))
}
