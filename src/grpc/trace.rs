//! The span that a call was made from, as W3C Trace Context names it.

use http::HeaderMap;

use crate::model::TraceContext;

/// The span in `traceparent`; none if there is none that can be read, or its ids are all zeros, which means none.
pub(super) fn of_headers(headers: &HeaderMap) -> Option<TraceContext> {
    let header = headers.get("traceparent")?.as_bytes();
    // A version of two digits, and no other than `ff`; later versions may add parts behind.
    let (version, rest) = header.split_at_checked(2)?;
    let (trace, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
    let (span, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
    let (flags, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
    let is_whole = rest.is_empty() || (version != b"00" && rest.first() == Some(&b'-'));
    let [_] = bytes::<1>(version)?;
    if !is_whole || version == b"ff" {
        return None;
    }
    let [flags] = bytes::<1>(flags)?;
    let context = TraceContext {
        trace_id: bytes(trace)?,
        span_id: bytes(span)?,
        is_sampled: flags & 1 != 0,
    };
    (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
}

/// The bytes that `digits` write, two digits each.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else {
            return None;
        };
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

/// Trace context is written in small letters only.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(header: &str) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", header.parse().unwrap());
        of_headers(&headers)
    }

    #[test]
    fn a_span_is_read_as_it_is_written() {
        let context = of(GOOD).unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), GOOD);
        assert!(!of(&GOOD.replace("-01", "-00")).unwrap().is_sampled);
        assert_eq!(of(&GOOD.replace("00-", "01-")), Some(context));
        assert_eq!(
            of(&format!("{}-more", GOOD.replace("00-", "01-"))),
            Some(context)
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_span() {
        assert_eq!(of_headers(&HeaderMap::new()), None);
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
