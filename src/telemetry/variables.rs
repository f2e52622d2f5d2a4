//! The environment, read by name.

use std::collections::BTreeMap;

use super::TelemetryError;

/// The environment, read by name. An empty variable is one that is not set.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a>(pub(super) &'a BTreeMap<String, String>);

impl<'a> Variables<'a> {
    pub(super) fn text(self, variable: &str) -> Option<&'a str> {
        let value = self.0.get(variable)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// What `read` makes of `variable`, if it is set.
    pub(super) fn parse<T>(
        self,
        variable: &'static str,
        read: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, TelemetryError> {
        let Some(text) = self.text(variable) else {
            return Ok(None);
        };
        let value = read(text).ok_or_else(|| TelemetryError::BadVariable {
            variable,
            value: text.to_owned(),
            expected,
        })?;
        Ok(Some(value))
    }
}
