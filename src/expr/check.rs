//! Types, as far as they are known before any event is there, and what the operators take.
//!
//! Guarantees: only what can never give a value is refused; a field may be anything. Equality takes any two values.

use super::ast::Arithmetic;
use super::value::Value;
use std::fmt;

/// The type of a value; [`Type::Any`] is one that only the event decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    List,
    Map,
    Timestamp,
    Duration,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Any => "any value",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::List => "list",
            Type::Map => "map",
            Type::Timestamp => "timestamp",
            Type::Duration => "duration",
        })
    }
}

impl Type {
    pub fn of(value: &Value<'_>) -> Type {
        match value {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::List(_) => Type::List,
            Value::Map(_) => Type::Map,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
        }
    }

    /// Whether a value of this type may turn out to be one of these.
    pub fn may_be(self, types: &[Type]) -> bool {
        self == Type::Any || types.contains(&self) || types.contains(&Type::Any)
    }

    /// The type of a value that is either of two.
    pub fn or(self, other: Type) -> Type {
        if self == other { self } else { Type::Any }
    }

    fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Double)
    }
}

/// Whether `<` and its like take these.
pub(super) fn ordered(left: Type, right: Type) -> bool {
    const ORDERED: [Type; 7] =
        [Type::Bool, Type::Int, Type::Uint, Type::Double, Type::String, Type::Timestamp, Type::Duration];
    match (left, right) {
        (Type::Any, other) | (other, Type::Any) => other.may_be(&ORDERED),
        _ => ORDERED.contains(&left) && (left == right || left.is_number() && right.is_number()),
    }
}

/// What an operator makes of two operands; nothing if it takes none such.
pub(super) fn computed(operator: Arithmetic, left: Type, right: Type) -> Option<Type> {
    use Arithmetic::{Add, Subtract};
    let adds = operator == Add;
    let takes = |known: Type| {
        known.is_number() && !(operator == Arithmetic::Remainder && known == Type::Double)
            || adds && matches!(known, Type::String | Type::List)
            || matches!(operator, Add | Subtract) && matches!(known, Type::Timestamp | Type::Duration)
    };
    match (left, right) {
        (Type::Any, Type::Any) => Some(Type::Any),
        // What moments and durations make depends on the other operand; for all others both are of one type.
        (Type::Any, known) | (known, Type::Any) => {
            let either = matches!(known, Type::Timestamp | Type::Duration);
            takes(known).then_some(if either { Type::Any } else { known })
        }
        (Type::Timestamp, Type::Duration) if matches!(operator, Add | Subtract) => Some(Type::Timestamp),
        (Type::Duration, Type::Timestamp) if adds => Some(Type::Timestamp),
        (Type::Timestamp, Type::Timestamp) => (operator == Subtract).then_some(Type::Duration),
        _ => (left == right && takes(left)).then_some(left),
    }
}

/// What to write where two operands do not fit.
pub(super) fn advice(left: Type, right: Type) -> &'static str {
    match (left, right) {
        (Type::String, other) | (other, Type::String) if other.is_number() => {
            "convert one of them: string(5), int(\"5\"), double(\"0.5\")"
        }
        (left, right) if left.is_number() && right.is_number() => {
            "numbers of different types are not computed with: convert one, such as double(1)"
        }
        (Type::Timestamp | Type::Duration, _) | (_, Type::Timestamp | Type::Duration) => {
            "write moments as timestamp(\"2026-01-01T00:00:00Z\") and lengths as duration(\"1h30m\")"
        }
        _ => "both operands must be of one type",
    }
}
