//! The JSON form of the public API's messages, as protobuf defines it.

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};

use super::proto::{DESCRIPTORS, Struct};

const PACKAGE: &str = "countersign.v1";

/// A message could not be read from JSON or written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is not the JSON form of the message.
    #[error("line {line}, column {column}: {message}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The descriptors do not hold the message.
    #[error("the API has no message `{0}`")]
    UnknownMessage(&'static str),
    /// The message could not be transcoded.
    #[error("the message cannot be converted")]
    Transcode(#[from] prost::DecodeError),
    /// The message could not be written.
    #[error("the message cannot be written as JSON")]
    Write(#[from] serde_json::Error),
}

fn descriptor(
    package: &str,
    name: &'static str,
) -> Result<prost_reflect::MessageDescriptor, JsonError> {
    let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|_| JsonError::UnknownMessage(name))?;
    pool.get_message_by_name(&format!("{package}.{name}"))
        .ok_or(JsonError::UnknownMessage(name))
}

/// Reads the message called `name` (without package) from JSON; unknown fields are refused.
///
/// # Errors
/// Where the text is not the JSON form of the message.
pub fn read<M: Message + Default>(name: &'static str, text: &str) -> Result<M, JsonError> {
    read_as(descriptor(PACKAGE, name)?, text)
}

/// Reads a JSON object, as contexts and attributes are sent.
///
/// # Errors
/// Where the text is not a JSON object.
pub fn read_struct(text: &str) -> Result<Struct, JsonError> {
    read_as(descriptor("google.protobuf", "Struct")?, text)
}

fn read_as<M: Message + Default>(
    descriptor: prost_reflect::MessageDescriptor,
    text: &str,
) -> Result<M, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor, &mut deserializer, &options)
        .map_err(|error| malformed(&error))?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(message.transcode_to()?)
}

fn malformed(error: &serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    // The place is told apart, once.
    let place = format!(" at line {line} column {column}");
    JsonError::Malformed {
        line,
        column,
        message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
    }
}

/// Writes the message called `name` (without package) as indented JSON with the names of the proto.
///
/// # Errors
/// When the descriptors do not fit the message.
pub fn write(name: &'static str, message: &impl Message) -> Result<String, JsonError> {
    let dynamic = DynamicMessage::decode(
        descriptor(PACKAGE, name)?,
        message.encode_to_vec().as_slice(),
    )?;
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::pretty(&mut text);
    let options = SerializeOptions::new().use_proto_field_name(true);
    dynamic.serialize_with_options(&mut serializer, &options)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
