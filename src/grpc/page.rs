//! Pages of lists: where the next one begins, in a text that only this server reads.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::approval::Digest;
use crate::usecase::approval_store::ListCursor;

use super::proto::ListApprovalsRequest;
use super::status::ClientError;

const DEFAULT_SIZE: u32 = 50;
const LARGEST_SIZE: u32 = 200;

/// What a page token holds.
#[derive(Deserialize, Serialize)]
struct Token {
    cursor: ListCursor,
    /// The digest of the question: a token continues the list that it comes from, and no other.
    question: Digest,
}

/// Where the page begins and how many it has.
///
/// # Errors
/// `INVALID_ARGUMENT` for a token or a size that cannot be.
pub(super) fn read(asked: &ListApprovalsRequest) -> Result<(Option<ListCursor>, u32), ClientError> {
    let size = match u32::try_from(asked.page_size) {
        Ok(0) => DEFAULT_SIZE,
        Ok(size) => size.min(LARGEST_SIZE),
        Err(_) => return Err(ClientError::invalid("page_size", "is negative")),
    };
    if asked.page_token.is_empty() {
        return Ok((None, size));
    }
    let token = URL_SAFE_NO_PAD
        .decode(&asked.page_token)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok())
        .ok_or_else(|| ClientError::invalid("page_token", "is not a token of this list"))?;
    if token.question != question(asked) {
        let message = "belongs to another question: send the same filters with it as before";
        return Err(ClientError::invalid("page_token", message));
    }
    Ok((Some(token.cursor), size))
}

/// The text that leads to what is behind `cursor`.
pub(super) fn token(cursor: &ListCursor, asked: &ListApprovalsRequest) -> String {
    let token = Token {
        cursor: cursor.clone(),
        question: question(asked),
    };
    serde_json::to_vec(&token)
        .map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
        .unwrap_or_default()
}

fn question(asked: &ListApprovalsRequest) -> Digest {
    let question = format!("{:?}", (&asked.statuses, &asked.rules, &asked.requester));
    Digest::of("countersign list v1", question.as_bytes())
}
