//! What is wrong with an expression, and why an evaluation gave no value.
//!
//! Guarantees: an error of an evaluation allocates nothing, since conditions fail on every event that lacks the field.

use super::PathIndex;
use crate::config::de::placed;
use std::fmt;
use std::ops::Range;

/// An expression that was refused, with the place in its source.
///
/// Its alternate form (`{:#}`) says place and help too, for whoever reads configurations: see [`crate::config::de::placed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// Bytes of the source that are to blame; empty at its end if something is missing there.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

impl std::error::Error for ExprError {}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => f.write_str(&placed(&self.span, &self.message, self.help.as_deref().unwrap_or_default())),
            false => f.write_str(&self.message),
        }
    }
}

impl ExprError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> ExprError {
        ExprError { span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> ExprError {
        self.help = Some(help.into());
        self
    }
}

/// Why an evaluation gave no value. A condition without a value counts as false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The event has nothing at this path.
    #[error("no such key: the event has no such field")]
    NoSuchField(PathIndex),
    /// A map has no such key.
    #[error("no such key")]
    NoSuchKey,
    /// A list has no such element.
    #[error("index out of bounds")]
    IndexOutOfBounds,
    /// The operator or function takes no values of these types.
    #[error("no such overload: {0} does not take values of these types")]
    NoSuchOverload(&'static str),
    /// A number, a moment or a duration left its range.
    #[error("overflow: the result leaves the range of its type")]
    Overflow,
    /// A division by zero, or the remainder of one.
    #[error("division by zero")]
    DivisionByZero,
    /// A text that does not read as what it was to become.
    #[error("conversion: the value does not read as {0}")]
    Conversion(&'static str),
    /// A condition whose value is neither true nor false.
    #[error("not a bool: the condition's value is neither true nor false")]
    NotBool,
    /// A map that was to be built with one key twice.
    #[error("a map has a key twice")]
    DuplicateKey,
    /// Values nested too deeply to be compared.
    #[error("values are nested too deeply")]
    TooDeep,
    /// A field that is not valid JSON.
    #[error("a field is not valid JSON")]
    Malformed,
}

impl EvalError {
    /// A word for a metric's label: few, and always the same ones.
    pub fn reason(&self) -> &'static str {
        match self {
            EvalError::NoSuchField(_) | EvalError::NoSuchKey => "no_such_key",
            EvalError::IndexOutOfBounds => "index_out_of_bounds",
            EvalError::NoSuchOverload(_) | EvalError::NotBool => "wrong_type",
            EvalError::Overflow => "overflow",
            EvalError::DivisionByZero => "division_by_zero",
            EvalError::Conversion(_) => "conversion",
            EvalError::DuplicateKey => "duplicate_key",
            EvalError::TooDeep => "too_deep",
            EvalError::Malformed => "malformed",
        }
    }
}
