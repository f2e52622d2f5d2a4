//! Where a call stands in a distributed trace, as W3C Trace Context names it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The span that a call was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace. Never all zeros.
    pub trace_id: [u8; 16],
    /// The calling span. Never all zeros.
    pub span_id: [u8; 8],
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// As a `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        for byte in self.trace_id {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("-")?;
        for byte in self.span_id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{:02x}", u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_the_header_has_it() {
        let context = TraceContext {
            trace_id: [0x0a; 16],
            span_id: [0xb7; 8],
            is_sampled: true,
        };
        assert_eq!(
            context.to_string(),
            "00-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-b7b7b7b7b7b7b7b7-01"
        );
    }
}
