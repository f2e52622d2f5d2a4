//! What a server can be told about a witness of its audit log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::cosignature::{CosignerKey, CosignerKeyError};
use crate::channel::{Hidden, WitnessUrl};

/// How many witnesses there are at most: their signatures stand under a checkpoint beside the log's own.
const MAX_WITNESSES: usize = 8;

/// A witness: somebody else, who sees every checkpoint of the control log and signs those that follow from what was seen before.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// Where it takes checkpoints: its submission prefix, `https`, or `http` on loopback.
    pub url: Hidden,
    /// The key with which it signs: `name+id+key`, for Ed25519 cosignatures.
    pub key: String,
}

impl WitnessConfig {
    /// Where to ask, and whose signature counts.
    ///
    /// # Errors
    /// The key with a value that cannot be used, and why.
    pub fn parse(&self) -> Result<(WitnessUrl, CosignerKey), (&'static str, String)> {
        let url = WitnessUrl::parse(&self.url).map_err(|error| ("url", error.to_string()))?;
        let key = self.key.parse();
        let key = key.map_err(|error: CosignerKeyError| ("key", error.to_string()))?;
        Ok((url, key))
    }
}

/// Checks `[audit.witness.NAME]`, for each name.
///
/// # Errors
/// The first key with a value that cannot be used, and why.
pub(super) fn check(witnesses: &BTreeMap<String, WitnessConfig>) -> Result<(), String> {
    if witnesses.len() > MAX_WITNESSES {
        return Err(format!("there are more than {MAX_WITNESSES}"));
    }
    let mut keys: BTreeMap<[u8; 32], &str> = BTreeMap::new();
    for (name, config) in witnesses {
        let (_, key) = config
            .parse()
            .map_err(|(field, message)| format!("`{name}.{field}`: {message}"))?;
        if let Some(other) = keys.insert(*key.public_key(), name) {
            return Err(format!("`{name}.key` is that of `{other}` as well"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";

    fn read(text: &str) -> Result<BTreeMap<String, WitnessConfig>, toml::de::Error> {
        toml::from_str(text)
    }

    fn checked(text: &str) -> Result<(), String> {
        check(&read(text).unwrap())
    }

    #[test]
    fn a_witness_is_a_url_and_a_key() {
        let text = format!("[w]\nurl = \"https://w.example/t0ken\"\nkey = \"{KEY}\"");
        let witnesses = read(&text).unwrap();
        assert_eq!(check(&witnesses), Ok(()));
        let (_, key) = witnesses["w"].parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        let shown = format!("{witnesses:?}{}", toml::to_string(&witnesses).unwrap());
        assert!(!shown.contains("t0ken") && shown.contains(KEY), "{shown}");
    }

    #[test]
    fn errors_name_the_key_and_not_the_url() {
        let url = format!("[w]\nurl = \"http://w.example/t0ken\"\nkey = \"{KEY}\"");
        let error = checked(&url).unwrap_err();
        assert!(
            error.starts_with("`w.url`: the URL does not begin"),
            "{error}"
        );
        assert!(!error.contains("t0ken"));
        let log = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let error = checked(&format!("[w]\nurl = \"https://w\"\nkey = \"{log}\"")).unwrap_err();
        assert!(
            error.starts_with("`w.key`: the key is of kind 1"),
            "{error}"
        );
        let wrong = KEY.replace("da77", "da78");
        let error = checked(&format!("[w]\nurl = \"https://w\"\nkey = \"{wrong}\"")).unwrap_err();
        assert!(error.starts_with("`w.key`: the key's id"), "{error}");
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        let error = read("[w]\nurl = \"https://w\"\nkeyy = \"\"").unwrap_err();
        assert!(error.message().contains("`keyy`"), "{error}");
        let error = read("[w]\nurl = \"https://w\"").unwrap_err();
        assert!(error.message().contains("`key`"), "{error}");
    }

    #[test]
    fn one_witness_does_not_count_twice() {
        let one = format!("url = \"https://w\"\nkey = \"{KEY}\"\n");
        let error = checked(&format!("[a]\n{one}[b]\n{one}")).unwrap_err();
        assert_eq!(error, "`b.key` is that of `a` as well");
        let many = (0..9).map(|index| format!("[w{index}]\n{one}"));
        let many: Vec<String> = many.collect();
        assert_eq!(
            checked(&many.concat()),
            Err("there are more than 8".to_owned())
        );
    }
}
