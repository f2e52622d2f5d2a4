//! Calls without a gRPC library, frame by frame: what such a library would keep to itself, or would not let a client do.

use h2::client::{ResponseFuture, SendRequest, handshake};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::Pdp;

pub(crate) const AUTHORIZE: &str = "/countersign.v1.AuthorizationService/Authorize";
pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// An HTTP/2 connection.
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
}

/// A call whose message has not been sent.
pub(crate) struct Call {
    message: SendStream<Bytes>,
    answer: ResponseFuture,
}

/// An answer, headers and trailers together.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http_status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn code(&self) -> Code {
        self.headers
            .get("grpc-status")
            .map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()))
    }

    pub(crate) fn message<M: Message + Default>(&self) -> M {
        M::decode(&self.body[5..]).unwrap()
    }
}

/// A gRPC message as it is sent: not compressed, its length, itself.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), &message]
        .concat()
        .into()
}

impl Wire {
    pub(crate) fn connect(pdp: &Pdp) -> Self {
        let requests = pdp.wait(async {
            let stream = TcpStream::connect(pdp.address()).await.unwrap();
            let (requests, connection) = handshake(stream).await.unwrap();
            // Ends with the connection; how, its calls tell.
            pdp.runtime.spawn(connection);
            requests.ready().await.unwrap()
        });
        Self { requests }
    }

    /// Whether new calls are still taken.
    pub(crate) fn is_open(&self, pdp: &Pdp) -> bool {
        pdp.wait(self.requests.clone().ready()).is_ok()
    }

    /// Sends the headers of a call, with `more` in place of or beside what a gRPC library sends.
    pub(crate) fn open(
        &mut self,
        pdp: &Pdp,
        path: &str,
        more: &[(&'static str, &str)],
    ) -> Result<Call, h2::Error> {
        let mut request = Request::post(format!("http://{}{path}", pdp.address()))
            .body(())
            .unwrap();
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")]
            .iter()
            .chain(more)
        {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        self.requests = pdp.wait(self.requests.clone().ready())?;
        let (answer, message) = self.requests.send_request(request, false)?;
        Ok(Call { message, answer })
    }

    /// Makes a whole call.
    pub(crate) fn call(
        &mut self,
        pdp: &Pdp,
        path: &str,
        more: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, h2::Error> {
        self.open(pdp, path, more)?.finish(pdp, body)
    }
}

impl Call {
    /// Sends the body and waits for the answer.
    pub(crate) fn finish(mut self, pdp: &Pdp, body: Bytes) -> Result<Answer, h2::Error> {
        // The server may have answered already, and then takes no more.
        self.message.send_data(body, true).ok();
        pdp.wait(async {
            let (head, body) = self.answer.await?.into_parts();
            let mut answer = Answer {
                http_status: head.status.as_u16(),
                headers: head.headers,
                body: Vec::new(),
            };
            read(body, &mut answer).await?;
            Ok(answer)
        })
    }

    /// Sends the body, and waits until the server begins to answer.
    pub(crate) fn begin(mut self, pdp: &Pdp, body: Bytes) -> Result<RecvStream, h2::Error> {
        self.message.send_data(body, true)?;
        pdp.wait(async { Ok(self.answer.await?.into_body()) })
    }
}

async fn read(mut body: RecvStream, answer: &mut Answer) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answer.body.extend(data);
    }
    answer
        .headers
        .extend(body.trailers().await?.unwrap_or_default());
    Ok(())
}
