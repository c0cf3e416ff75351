//! Errors of compiling and evaluating an expression.
//!
//! Guarantees: an evaluation error allocates nothing, because conditions fail on every event that lacks the field.

use super::PathIndex;
use crate::config::de::{discreet, placed};
use std::fmt;
use std::ops::Range;

/// An expression that was rejected, with the place in its source.
///
/// Its alternate form (`{:#}`) includes the place and the help, for the reader of configurations: see
/// [`crate::config::de::placed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// The bytes of the source that are wrong; empty at the end if something is missing there.
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

    /// The words for a setting, which show no variable's value: this is the error of its [`marked::neutral`] form.
    ///
    /// [`marked::neutral`]: crate::codec::marked::neutral
    pub fn discreet(&self) -> String {
        discreet(&self.message, self.help.as_deref().unwrap_or_default())
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> ExprError {
        self.help = Some(help.into());
        self
    }
}

/// Why an evaluation has no value. A condition without a value counts as false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The event has no value at this path.
    #[error("the event has no such field")]
    NoSuchField(PathIndex),
    /// A map has no such key.
    #[error("the map has no such key")]
    NoSuchKey,
    /// A list has no such element.
    #[error("the index is out of bounds")]
    IndexOutOfBounds,
    /// The operator or function does not accept values of these types.
    #[error("wrong type: {0} does not accept values of these types")]
    NoSuchOverload(&'static str),
    /// A number, timestamp or duration left its range.
    #[error("overflow: the result is outside the range of its type")]
    Overflow,
    /// A division by zero, or the remainder of one.
    #[error("division by zero")]
    DivisionByZero,
    /// A value that cannot be converted.
    #[error("the value cannot be converted to {0}")]
    Conversion(&'static str),
    /// A condition whose value is neither true nor false.
    #[error("wrong type: the value of the condition is not a bool")]
    NotBool,
    /// A map literal with a duplicate key.
    #[error("a map has a duplicate key")]
    DuplicateKey,
    /// Values that are nested too deeply to be compared.
    #[error("values are nested too deeply")]
    TooDeep,
    /// A walk that took more steps than it may.
    #[error("too much work: the lists and maps of the event are too large for this expression")]
    TooMuchWork,
    /// A field that is not valid JSON.
    #[error("a field is not valid JSON")]
    Malformed,
}

impl EvalError {
    /// A value for a metric label: one of a small fixed set.
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
            EvalError::TooMuchWork => "too_much_work",
            EvalError::Malformed => "malformed",
        }
    }
}
