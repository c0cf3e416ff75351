//! `parse: json`: an event is a JSON object, and its fields become the fields of the event.
//!
//! Guarantees: fields that no transform changes are written byte for byte as they were read. If a key occurs twice, the last
//! one counts. Anything else, such as an array or a number, cannot be parsed.

use super::OnError;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of the parser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What happens to a line that is not a JSON object.
    pub on_error: OnError,
}
