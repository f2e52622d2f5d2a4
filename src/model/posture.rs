//! The two switches that decide how careful a policy set is.

use std::fmt;
use std::str::FromStr;

/// What becomes of policies that cannot be evaluated, and of entities that are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Posture {
    /// A forbid or gate that errs denies; a missing entity denies.
    #[default]
    Strict,
    /// As Cedar does: an erring policy is skipped, a missing entity has no attributes and no parents.
    Cedar,
}

/// How policies are checked against the schema when they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValidationMode {
    /// A finding keeps the set from being loaded.
    #[default]
    Strict,
    /// Findings are reported as warnings.
    Warn,
    /// Policies are not checked.
    Off,
}

/// A switch was given a word it does not know.
#[derive(Debug, thiserror::Error)]
#[error("`{given}` is not one of {known}")]
pub struct UnknownMode {
    given: String,
    known: &'static str,
}

impl FromStr for Posture {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "strict" => Ok(Self::Strict),
            "cedar" => Ok(Self::Cedar),
            _ => Err(UnknownMode {
                given: text.to_owned(),
                known: "`strict`, `cedar`",
            }),
        }
    }
}

impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Cedar => "cedar",
        })
    }
}

impl FromStr for ValidationMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "strict" => Ok(Self::Strict),
            "warn" => Ok(Self::Warn),
            "off" => Ok(Self::Off),
            _ => Err(UnknownMode {
                given: text.to_owned(),
                known: "`strict`, `warn`, `off`",
            }),
        }
    }
}

impl fmt::Display for ValidationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Warn => "warn",
            Self::Off => "off",
        })
    }
}
