//! The types generated from `proto/countersign/v1`.

#[expect(
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated"
)]
mod generated {
    tonic::include_proto!("countersign.v1");
}

pub use generated::*;
/// A JSON object, as contexts and attributes are sent.
pub use prost_types::Struct;

/// The descriptors of the public API, for reflection and for reading and writing it as JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/countersign.v1.binpb"));
