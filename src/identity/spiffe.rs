//! Names of workloads, as the SPIFFE ID specification writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

const SCHEME: &str = "spiffe://";
const MAX_ID_BYTES: usize = 2048;
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Whose word counts for the workloads in it: lower case letters, digits, `.`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Reads the name of a trust domain, with or without `spiffe://` in front.
    ///
    /// # Errors
    /// [`BadSpiffeId`] if it is empty, too long, or has another character than a trust domain can have.
    pub fn parse(text: &str) -> Result<Self, BadSpiffeId> {
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        if name.is_empty() {
            return Err(BadSpiffeId::NoTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(BadSpiffeId::TrustDomainTooLong);
        }
        let is_right = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if !name.bytes().all(is_right) {
            return Err(BadSpiffeId::TrustDomainCharacter);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name, without `spiffe://`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = BadSpiffeId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

/// The name of a workload: `spiffe://trust-domain/path`. There is one way only to write each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    /// Empty, or begins with a slash.
    path: String,
}

impl SpiffeId {
    /// Reads a name of at most 2048 bytes.
    ///
    /// # Errors
    /// [`BadSpiffeId`] for whatever the specification forbids; nothing is repaired, not even the case of the scheme.
    pub fn parse(text: &str) -> Result<Self, BadSpiffeId> {
        if text.len() > MAX_ID_BYTES {
            return Err(BadSpiffeId::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(BadSpiffeId::Scheme)?;
        let (domain, path) = match rest.split_once('/') {
            None => (rest, None),
            Some((domain, path)) => (domain, Some(path)),
        };
        let trust_domain = TrustDomain::parse(domain)?;
        let path = path.map_or(Ok(String::new()), read_path)?;
        Ok(Self { trust_domain, path })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path: begins with a slash, or is empty if the name is that of the whole trust domain.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

/// Why a text names no workload. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpiffeId {
    /// It is longer than an id can be.
    #[error("it is longer than {MAX_ID_BYTES} bytes")]
    TooLong,
    /// It is a URI of another kind.
    #[error("it does not begin with `spiffe://`, in lower case")]
    Scheme,
    /// The trust domain is empty.
    #[error("its trust domain is empty")]
    NoTrustDomain,
    /// The trust domain is too long.
    #[error("its trust domain is longer than {MAX_TRUST_DOMAIN_BYTES} bytes")]
    TrustDomainTooLong,
    /// The trust domain has a character that it cannot have; a port and a user name do so too.
    #[error("its trust domain has another character than `a` to `z`, `0` to `9`, `.`, `-` and `_`")]
    TrustDomainCharacter,
    /// The path has an empty segment, or ends with a slash.
    #[error("its path has an empty segment, or ends with a slash")]
    EmptySegment,
    /// The path has a segment that would lead elsewhere.
    #[error("its path has a segment `.` or `..`")]
    DotSegment,
    /// The path has a character that it cannot have; a percent sign, a query and a fragment do so too.
    #[error("its path has another character than letters, digits, `.`, `-` and `_`")]
    PathCharacter,
}

/// Checks what stands behind the first slash, and puts the slash back.
fn read_path(path: &str) -> Result<String, BadSpiffeId> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    for segment in path.split('/') {
        match segment {
            "" => return Err(BadSpiffeId::EmptySegment),
            "." | ".." => return Err(BadSpiffeId::DotSegment),
            _ if !segment.bytes().all(is_right) => return Err(BadSpiffeId::PathCharacter),
            _ => {}
        }
    }
    Ok(format!("/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_specification_allows_is_read_and_written_alike() {
        let longest = format!("spiffe://td/{}", "a".repeat(MAX_ID_BYTES - 12));
        for text in [
            "spiffe://example.org",
            "spiffe://example.org/ns/prod/sa/payments",
            "spiffe://td_1.a-b/9eebccd2-12bf-40a6-b262-65fe0487d453",
            "spiffe://10.0.0.1/A_b.C-9",
            "spiffe://td/..a/a..",
            &longest,
        ] {
            assert_eq!(SpiffeId::parse(text).unwrap().to_string(), text);
        }
        let id = SpiffeId::parse("spiffe://example.org/a/b").unwrap();
        assert_eq!(id.trust_domain().as_str(), "example.org");
        assert_eq!(id.path(), "/a/b");
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        let long_domain = format!("spiffe://{}/a", "d".repeat(256));
        let too_long = format!("spiffe://td/{}", "a".repeat(MAX_ID_BYTES));
        for (text, fault) in [
            ("", BadSpiffeId::Scheme),
            ("example.org/a", BadSpiffeId::Scheme),
            ("SPIFFE://example.org/a", BadSpiffeId::Scheme),
            ("spiffe:/example.org/a", BadSpiffeId::Scheme),
            ("https://example.org/a", BadSpiffeId::Scheme),
            (" spiffe://example.org/a", BadSpiffeId::Scheme),
            ("spiffe://", BadSpiffeId::NoTrustDomain),
            ("spiffe:///a", BadSpiffeId::NoTrustDomain),
            ("spiffe://Example.org/a", BadSpiffeId::TrustDomainCharacter),
            (
                "spiffe://example.org:80/a",
                BadSpiffeId::TrustDomainCharacter,
            ),
            (
                "spiffe://me@example.org/a",
                BadSpiffeId::TrustDomainCharacter,
            ),
            ("spiffe://exämple.org/a", BadSpiffeId::TrustDomainCharacter),
            ("spiffe://example.org?a", BadSpiffeId::TrustDomainCharacter),
            ("spiffe://spiffe://td/a", BadSpiffeId::TrustDomainCharacter),
            ("spiffe://td/", BadSpiffeId::EmptySegment),
            ("spiffe://td/a/", BadSpiffeId::EmptySegment),
            ("spiffe://td//a", BadSpiffeId::EmptySegment),
            ("spiffe://td/a/./b", BadSpiffeId::DotSegment),
            ("spiffe://td/a/../b", BadSpiffeId::DotSegment),
            ("spiffe://td/a%2Fb", BadSpiffeId::PathCharacter),
            ("spiffe://td/a?b", BadSpiffeId::PathCharacter),
            ("spiffe://td/a#b", BadSpiffeId::PathCharacter),
            ("spiffe://td/a b", BadSpiffeId::PathCharacter),
            ("spiffe://td/ä", BadSpiffeId::PathCharacter),
            ("spiffe://td/a\0", BadSpiffeId::PathCharacter),
            (&long_domain, BadSpiffeId::TrustDomainTooLong),
            (&too_long, BadSpiffeId::TooLong),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_trust_domain_is_written_with_or_without_its_scheme() {
        let domain = TrustDomain::parse("example.org").unwrap();
        assert_eq!(TrustDomain::parse("spiffe://example.org"), Ok(domain));
        assert!(TrustDomain::parse("spiffe://example.org/a").is_err());
        assert!(serde_json::from_str::<TrustDomain>(r#""Example""#).is_err());
    }
}
