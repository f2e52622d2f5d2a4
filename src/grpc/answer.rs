//! The answer to Authorize as bytes.
//!
//! Of two answers to the same request only the decision id differs. The rest is encoded once and kept with the decision, so that
//! a kept decision is neither built nor encoded again for each call.
//! INVARIANT (same-bytes): what `Answer::encode` writes decodes to what `convert::response` makes.

use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;
use prost::bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};
use uuid::Uuid;

use crate::usecase::{ApprovalPart, Authorized, CachedDecision};

use super::convert;
use super::proto::batch_authorize_result::Result as BatchItem;
use super::proto::{
    AuthorizeRequest, AuthorizeResponse, BatchAuthorizeError, BatchAuthorizeRequest,
    BatchAuthorizeResult,
};

/// `AuthorizeResponse.decision_id`.
const DECISION_ID_TAG: u32 = 2;
/// `BatchAuthorizeResponse.results`.
const RESULTS_TAG: u32 = 1;
/// `BatchAuthorizeResult.response`.
const RESPONSE_TAG: u32 = 1;
const ID_LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;

/// The answer to one request.
#[derive(Debug)]
pub(super) enum Answer {
    /// All but the decision id is kept with the decision.
    Kept {
        decision: Arc<CachedDecision>,
        decision_id: Uuid,
    },
    /// An answer that holds more than the decision.
    Whole(Box<AuthorizeResponse>),
}

impl Answer {
    /// The answer to an authorized request.
    pub(super) fn of(authorized: Authorized) -> Self {
        if authorized.approval != ApprovalPart::None || authorized.is_unlogged {
            return Self::Whole(Box::new(convert::response(&authorized)));
        }
        authorized.decision.rendered.get_or_init(|| {
            let without_id = AuthorizeResponse {
                decision_id: String::new(),
                ..convert::response(&authorized)
            };
            without_id.encode_to_vec().into_boxed_slice()
        });
        Self::Kept {
            decision: authorized.decision,
            decision_id: authorized.decision_id,
        }
    }

    fn kept_bytes(decision: &CachedDecision) -> &[u8] {
        decision.rendered.get().map_or(&[], |bytes| bytes)
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Kept { decision, .. } => {
                let id =
                    key_len(DECISION_ID_TAG) + encoded_len_varint(to_u64(ID_LENGTH)) + ID_LENGTH;
                Self::kept_bytes(decision).len() + id
            }
            Self::Whole(response) => response.encoded_len(),
        }
    }

    fn encode(&self, buffer: &mut impl BufMut) {
        match self {
            Self::Kept {
                decision,
                decision_id,
            } => {
                buffer.put_slice(Self::kept_bytes(decision));
                let mut text = [0_u8; ID_LENGTH];
                let text = decision_id.hyphenated().encode_lower(&mut text);
                encode_key(DECISION_ID_TAG, WireType::LengthDelimited, buffer);
                encode_varint(to_u64(ID_LENGTH), buffer);
                buffer.put_slice(text.as_bytes());
            }
            Self::Whole(response) => response.encode_raw(buffer),
        }
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The answers to a batch, in order.
#[derive(Debug)]
pub(super) struct BatchAnswer(pub(super) Vec<Result<Answer, BatchAuthorizeError>>);

impl BatchAnswer {
    fn encode(&self, buffer: &mut impl BufMut) {
        for result in &self.0 {
            encode_key(RESULTS_TAG, WireType::LengthDelimited, buffer);
            match result {
                Ok(answer) => {
                    let length = to_u64(answer.encoded_len());
                    let framed =
                        to_u64(key_len(RESPONSE_TAG) + encoded_len_varint(length)) + length;
                    encode_varint(framed, buffer);
                    encode_key(RESPONSE_TAG, WireType::LengthDelimited, buffer);
                    encode_varint(length, buffer);
                    answer.encode(buffer);
                }
                Err(error) => {
                    let result = BatchAuthorizeResult {
                        result: Some(BatchItem::Error(error.clone())),
                    };
                    encode_varint(to_u64(result.encoded_len()), buffer);
                    result.encode_raw(buffer);
                }
            }
        }
    }
}

/// Encodes answers, decodes the requests they belong to.
#[derive(Debug)]
pub(super) struct AnswerCodec<A, R>(PhantomData<fn() -> (A, R)>);

impl<A, R> Default for AnswerCodec<A, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Encodes answers.
#[derive(Debug)]
pub(super) struct AnswerEncoder<A>(PhantomData<fn() -> A>);

impl Codec for AnswerCodec<Answer, AuthorizeRequest> {
    type Encode = Answer;
    type Decode = AuthorizeRequest;
    type Encoder = AnswerEncoder<Answer>;
    type Decoder = ProstDecoder<AuthorizeRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        AnswerEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), AuthorizeRequest>::default().decoder()
    }
}

impl Codec for AnswerCodec<BatchAnswer, BatchAuthorizeRequest> {
    type Encode = BatchAnswer;
    type Decode = BatchAuthorizeRequest;
    type Encoder = AnswerEncoder<BatchAnswer>;
    type Decoder = ProstDecoder<BatchAuthorizeRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        AnswerEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), BatchAuthorizeRequest>::default().decoder()
    }
}

impl Encoder for AnswerEncoder<Answer> {
    type Item = Answer;
    type Error = Status;

    fn encode(&mut self, answer: Answer, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        answer.encode(buffer);
        Ok(())
    }
}

impl Encoder for AnswerEncoder<BatchAnswer> {
    type Item = BatchAnswer;
    type Error = Status;

    fn encode(&mut self, answer: BatchAnswer, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        answer.encode(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::grpc::proto::{BatchAuthorizeResponse, ErrorReason};
    use crate::model::{EntityRef, Record, Request};
    use crate::policy::{Bundle, BundleFile, CompileOptions, compile};
    use crate::usecase::ports::Clock;
    use crate::usecase::{ActiveSnapshot, Authorizer, AuthorizerSettings, CacheSettings, Step};

    use super::*;

    #[derive(Debug)]
    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    const POLICIES: &str = r#"
        @id("all") @description("Everybody may.") permit (principal, action, resource);
        @id("never") forbid (principal == User::"eve", action, resource);
        @id("ask") @approval("r") forbid (principal == User::"bob", action, resource);
    "#;
    const RULES: &str = "[rule.r]\ntitle = \"R\"\nslots = { a = 1, b = 2 }\nexpires_after = \"30m\"\nredeem_within = \"10m\"\n";

    /// The decisions on requests by these users, each asked twice so that the second is a kept one.
    fn authorized(users: &[&str]) -> Vec<Authorized> {
        let files = [("a.cedar", POLICIES), ("approvals.toml", RULES)];
        let bundle = Bundle::new(files.map(|(path, text)| BundleFile {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }));
        let snapshot = compile(&bundle, &CompileOptions::default())
            .snapshot
            .unwrap();
        let active = ActiveSnapshot::new(snapshot, CacheSettings::default(), Timestamp::UNIX_EPOCH);
        let active = Arc::new(active);
        let authorizer = Authorizer::new(
            Arc::default(),
            Arc::default(),
            None,
            Arc::new(Stopped),
            AuthorizerSettings { shadow_one_in: 0 },
        );
        let decide = |user: &&str| {
            let mut request = Request::new(
                EntityRef::new("User", *user),
                "a",
                EntityRef::new("Thing", "t"),
                Record::default(),
            );
            request.mode = crate::model::Mode::Check;
            match authorizer.begin(&active, request).unwrap() {
                Step::Done(authorized) => authorized,
                Step::Waits(_) => panic!("a dry run waits for nothing"),
            }
        };
        users.iter().chain(users).map(decide).collect()
    }

    #[test]
    fn what_is_kept_decodes_to_what_is_built() {
        for authorized in authorized(&["ann", "eve", "bob"]) {
            let built = convert::response(&authorized);
            let answer = Answer::of(authorized);
            let mut bytes = Vec::new();
            answer.encode(&mut bytes);
            assert_eq!(bytes.len(), answer.encoded_len());
            assert_eq!(AuthorizeResponse::decode(bytes.as_slice()).unwrap(), built);
        }
    }

    #[test]
    fn a_batch_keeps_order_and_errors() {
        let authorized = authorized(&["ann", "eve", "bob"]);
        let mut built: Vec<BatchItem> = authorized
            .iter()
            .map(|authorized| BatchItem::Response(convert::response(authorized)))
            .collect();
        let mut answers: Vec<_> = authorized
            .into_iter()
            .map(|each| Ok(Answer::of(each)))
            .collect();
        let error = BatchAuthorizeError {
            code: 3,
            reason: ErrorReason::InvalidRequest.into(),
            message: "no".to_owned(),
            field: "requests[1].action".to_owned(),
        };
        built.insert(1, BatchItem::Error(error.clone()));
        answers.insert(1, Err(error));
        let mut bytes = Vec::new();
        BatchAnswer(answers).encode(&mut bytes);
        let decoded = BatchAuthorizeResponse::decode(bytes.as_slice()).unwrap();
        let decoded: Vec<BatchItem> = decoded
            .results
            .into_iter()
            .filter_map(|each| each.result)
            .collect();
        assert_eq!(decoded, built);
    }
}
