//! The trace that a call belongs to, as W3C trace context names it.

use tonic::metadata::MetadataMap;

/// `traceparent`'s trace id; none if there is none that can be read, or it is all zeros, which means none.
pub(super) fn trace_id(metadata: &MetadataMap) -> Option<[u8; 16]> {
    let header = metadata.get("traceparent")?.as_bytes();
    // A version of two digits, and no other than `ff`; later versions may add parts behind.
    let (version, rest) = header.split_at_checked(2)?;
    let (digits, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
    let is_whole =
        rest.first() == Some(&b'-') && version.iter().all(|digit| nibble(*digit).is_some());
    if !is_whole || version == b"ff" {
        return None;
    }
    let mut id = [0_u8; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else {
            return None;
        };
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    (id != [0; 16]).then_some(id)
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

    fn of(header: &str) -> Option<[u8; 16]> {
        let mut metadata = MetadataMap::new();
        metadata.insert("traceparent", header.parse().unwrap());
        trace_id(&metadata)
    }

    #[test]
    fn a_trace_is_found_or_there_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let id = of(good).unwrap();
        assert_eq!((id[0], id[15]), (0x0a, 0x9c));
        assert_eq!(of(&good.replace("00-", "01-")), Some(id));
        assert_eq!(trace_id(&MetadataMap::new()), None);
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
