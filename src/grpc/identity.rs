//! Who calls.

use tonic::metadata::MetadataMap;

use crate::approval::Person;
use crate::usecase::ports::Credentials;

use super::status::ClientError;

/// The metadata that carries a person's credential.
const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "Bearer ";

/// The person that the call's credential names; none if it carries no credential.
///
/// # Errors
/// UNAUTHENTICATED for a credential that names nobody: it is never taken for none.
pub(super) fn person(
    metadata: &MetadataMap,
    credentials: &dyn Credentials,
) -> Result<Option<Person>, ClientError> {
    let Some(value) = metadata.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix(BEARER))
        .ok_or_else(|| {
            ClientError::unauthenticated("`authorization` is not `Bearer` and a credential")
        })?;
    let person = credentials
        .person(token)
        .map_err(|error| ClientError::unauthenticated(error.to_string()))?;
    Ok(Some(person))
}

/// The person that the call's credential names.
///
/// # Errors
/// UNAUTHENTICATED if it names nobody.
pub(super) fn required_person(
    metadata: &MetadataMap,
    credentials: &dyn Credentials,
) -> Result<Person, ClientError> {
    person(metadata, credentials)?.ok_or_else(|| {
        ClientError::unauthenticated(
            "this is for a person to do: send a credential in `authorization`",
        )
    })
}
