//! Which values are not written to the audit log as they are.

use std::collections::BTreeMap;

/// What is written in a value's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Redaction {
    /// That there was one.
    Drop,
    /// A keyed hash, which shows equality and nothing else.
    Hmac,
}

/// The values that policies keep out of the log: below `context`, or below the attributes of an entity type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redactions {
    roots: BTreeMap<String, RedactionNode>,
}

/// A step of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactionNode {
    here: Option<Redaction>,
    below: BTreeMap<String, Self>,
}

/// A path that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path such as `context.token` or `User.email`")]
pub struct NotAPath(pub String);

impl Redactions {
    /// Whether everything is written as it is.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Adds the paths in `list`, which are separated by commas. Of two words on one path the stricter stays.
    ///
    /// # Errors
    /// [`NotAPath`], and nothing is added.
    pub fn add(&mut self, list: &str, redaction: Redaction) -> Result<(), NotAPath> {
        let paths: Vec<Vec<&str>> = list
            .split(',')
            .map(|path| path.trim().split('.').collect())
            .collect();
        let is_path =
            |steps: &Vec<&str>| steps.len() > 1 && steps.iter().all(|step| !step.is_empty());
        if !paths.iter().all(is_path) {
            return Err(NotAPath(list.to_owned()));
        }
        for steps in paths {
            let mut steps = steps.into_iter();
            let root = steps.next().unwrap_or_default();
            let mut node = self.roots.entry(root.to_owned()).or_default();
            for step in steps {
                node = node.below.entry(step.to_owned()).or_default();
            }
            // `Drop` comes first in the order, and is the stricter one.
            node.here = Some(node.here.map_or(redaction, |known| known.min(redaction)));
        }
        Ok(())
    }

    /// What is said of the values below `root`: `context`, or an entity type.
    pub fn below(&self, root: &str) -> Option<&RedactionNode> {
        self.roots.get(root)
    }
}

impl RedactionNode {
    /// What is said of this value.
    pub fn here(&self) -> Option<Redaction> {
        self.here
    }

    /// What is said of the value called `name` in it.
    pub fn step(&self, name: &str) -> Option<&Self> {
        self.below.get(name)
    }

    /// What is said of the value at `path` below this one, or of one that it is in.
    pub fn at(&self, path: &str) -> Option<Redaction> {
        let mut node = self;
        for step in path.split('.') {
            node = node.below.get(step)?;
            if node.here.is_some() {
                return node.here;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_word_stays() {
        let mut redactions = Redactions::default();
        redactions
            .add("context.a.b, User.email", Redaction::Hmac)
            .unwrap();
        redactions.add("context.a", Redaction::Drop).unwrap();
        redactions.add("User.email", Redaction::Drop).unwrap();
        let context = redactions.below("context").unwrap();
        assert_eq!(context.at("a.b"), Some(Redaction::Drop));
        assert_eq!(context.at("c"), None);
        assert_eq!(
            redactions.below("User").unwrap().at("email"),
            Some(Redaction::Drop)
        );
    }

    #[test]
    fn a_path_has_a_root_and_steps() {
        for wrong in [
            "",
            "context",
            "context.",
            ".a",
            "context.a,,b.c",
            "context.a, ",
        ] {
            let mut redactions = Redactions::default();
            assert!(redactions.add(wrong, Redaction::Drop).is_err(), "{wrong:?}");
            assert!(redactions.is_empty());
        }
    }
}
