//! What the server says of itself to those who collect from many.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

use super::{OtelEnvironment, TelemetrySettings};

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How many attributes the environment may add; each is a label of `target_info`.
const MAX_ATTRIBUTES: usize = 64;

/// Name, version and instance of this server, and what the environment adds or replaces.
pub(super) fn resource(settings: &TelemetrySettings, environment: &OtelEnvironment) -> Resource {
    let name = environment
        .service_name
        .clone()
        .unwrap_or_else(|| "countersign".to_owned());
    let added = environment
        .resource
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    // What comes later wins.
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new("service.version", VERSION))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            settings.service_instance.clone(),
        ))
        .with_attributes(added)
        .with_service_name(name)
        .build()
}

/// The service's name among `attributes`.
pub(super) fn service_name(attributes: &[(String, String)]) -> Option<String> {
    let mut named = attributes.iter().filter(|(key, _)| key == "service.name");
    named.next_back().map(|(_, value)| value.clone())
}

/// The attributes in `key=value,key=value`.
pub(super) fn attributes(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=')?;
        let key = decoded(key.trim())?;
        if key.is_empty() || found.len() == MAX_ATTRIBUTES {
            return None;
        }
        found.push((key, decoded(value.trim())?));
    }
    Some(found)
}

/// `text` with each `%XX` replaced.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_code = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_code)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_pairs_with_encoded_values() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let read = attributes("a=1, b = x%2Cy%20z,c=,").unwrap();
        assert_eq!(read, [pair("a", "1"), pair("b", "x,y z"), pair("c", "")]);
        for wrong in ["a", "=1", "a=%", "a=%2", "a=%+1", "a=%zz", "a=%ff"] {
            assert_eq!(attributes(wrong), None, "{wrong}");
        }
        let many = "a=1,".repeat(MAX_ATTRIBUTES + 1);
        assert_eq!(attributes(&many), None);
    }
}
