//! How large a request may be.

/// The limits of one request; a request over any of them is refused whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of an entity type's name.
    pub type_bytes: usize,
    /// Bytes of an identifier.
    pub id_bytes: usize,
    /// Bytes of a string in the context or an attribute.
    pub string_bytes: usize,
    /// Keys of one record, or elements of one list.
    pub items_per_level: usize,
    /// Values in the whole request.
    pub values: usize,
    /// How deep records and lists may nest.
    pub depth: usize,
    /// Entities described besides principal and resource.
    pub entities: usize,
    /// Parents of one described entity.
    pub parents: usize,
    /// Length of the on-behalf-of chain.
    pub on_behalf_of: usize,
    /// Bytes of the request id.
    pub request_id_bytes: usize,
    /// Bytes of the justification.
    pub justification_bytes: usize,
    /// Labels.
    pub labels: usize,
    /// Bytes of a label's key or value.
    pub label_bytes: usize,
    /// Requests of a batch.
    pub batch: usize,
}

impl RequestLimits {
    /// The limits this server keeps.
    pub const DEFAULT: Self = Self {
        type_bytes: 256,
        id_bytes: 1_024,
        string_bytes: 8_192,
        items_per_level: 256,
        values: 2_048,
        depth: 8,
        entities: 256,
        parents: 64,
        on_behalf_of: 8,
        request_id_bytes: 128,
        justification_bytes: 4_096,
        labels: 32,
        label_bytes: 256,
        batch: 100,
    };
}
