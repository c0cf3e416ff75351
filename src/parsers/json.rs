//! `parse: json`: an event is an object of JSON, and its fields are the event's fields.
//!
//! Guarantees: what is valid leaves byte for byte as it came, apart from fields that are changed; of a key that occurs twice the
//! last one counts. Anything else, an array or a number too, is an event that cannot be parsed.

use super::OnError;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of the parser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What happens to an event that is no object of JSON.
    pub on_error: OnError,
}
