//! `Authorize` and `BatchAuthorize` as they are served: the same as through the generated service, with answers encoded by `answer`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codec::Codec;
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tower::Service;

use super::answer::{Answer, AnswerCodec, BatchAnswer};
use super::proto::{AuthorizeRequest, BatchAuthorizeRequest};
use super::status::ClientError;
use super::{AuthorizationApi, MAX_AUTHORIZE_BYTES, MAX_BATCH_BYTES};

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

/// Serves `Authorize`.
#[derive(Clone, Debug)]
pub(super) struct SingleCalls(pub(super) AuthorizationApi);

/// Serves `BatchAuthorize`.
#[derive(Clone, Debug)]
pub(super) struct BatchCalls(pub(super) AuthorizationApi);

impl UnaryService<AuthorizeRequest> for SingleCalls {
    type Response = Answer;
    type Future = Answering<Answer>;

    fn call(&mut self, request: Request<AuthorizeRequest>) -> Self::Future {
        self.0.answer(request)
    }
}

impl UnaryService<BatchAuthorizeRequest> for BatchCalls {
    type Response = BatchAnswer;
    type Future = BoxedFuture<Result<Response<BatchAnswer>, Status>>;

    fn call(&mut self, request: Request<BatchAuthorizeRequest>) -> Self::Future {
        let api = self.0.clone();
        Box::pin(async move { Ok(Response::new(api.answer_batch(request).await?)) })
    }
}

impl<B> Service<http::Request<B>> for SingleCalls
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxedFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let codec = AnswerCodec::<Answer, AuthorizeRequest>::default();
        serve(codec, MAX_AUTHORIZE_BYTES, self.clone(), request)
    }
}

impl<B> Service<http::Request<B>> for BatchCalls
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxedFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let codec = AnswerCodec::<BatchAnswer, BatchAuthorizeRequest>::default();
        serve(codec, MAX_BATCH_BYTES, self.clone(), request)
    }
}

fn serve<C, S, B>(
    codec: C,
    max_bytes: usize,
    service: S,
    request: http::Request<B>,
) -> BoxedFuture<Result<http::Response<Body>, Infallible>>
where
    C: Codec + Send + 'static,
    C::Encode: Sync,
    C::Decode: Sync,
    S: UnaryService<C::Decode, Response = C::Encode> + Send + 'static,
    S::Future: Send,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    Box::pin(async move {
        let mut grpc = Grpc::new(codec).max_decoding_message_size(max_bytes);
        Ok(grpc.unary(service, request).await)
    })
}
