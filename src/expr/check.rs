//! Static types, and the operand types that operators accept.
//!
//! Guarantees: only an expression that can never have a value is rejected. A field may have any type. Equality accepts any two
//! values.

use super::ast::Arithmetic;
use super::value::Value;
use std::fmt;

/// The type of a value; [`Type::Any`] is known only when the event is.
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

    /// Whether a value of this type may have one of these types.
    pub fn may_be(self, types: &[Type]) -> bool {
        self == Type::Any || types.contains(&self) || types.contains(&Type::Any)
    }

    /// The type of a value that has one of two types.
    pub fn or(self, other: Type) -> Type {
        if self == other { self } else { Type::Any }
    }

    fn is_number(self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Double)
    }
}

/// Whether `<` and the other order operators accept these types.
pub(super) fn ordered(left: Type, right: Type) -> bool {
    const ORDERED: [Type; 7] =
        [Type::Bool, Type::Int, Type::Uint, Type::Double, Type::String, Type::Timestamp, Type::Duration];
    match (left, right) {
        (Type::Any, other) | (other, Type::Any) => other.may_be(&ORDERED),
        _ => ORDERED.contains(&left) && (left == right || left.is_number() && right.is_number()),
    }
}

/// The result type of an operator; none if it does not accept these operands.
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
        // For timestamps and durations, the result depends on the other operand. All other operands must have the same type.
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

/// What to write if two operands do not fit.
pub(super) fn advice(left: Type, right: Type) -> &'static str {
    match (left, right) {
        (Type::String, other) | (other, Type::String) if other.is_number() => {
            "convert one of them: string(5), int(\"5\"), double(\"0.5\")"
        }
        (left, right) if left.is_number() && right.is_number() => {
            "numbers of different types cannot be combined: convert one of them, for example double(1)"
        }
        (Type::Timestamp | Type::Duration, _) | (_, Type::Timestamp | Type::Duration) => {
            "write times as timestamp(\"2026-01-01T00:00:00Z\") and durations as duration(\"1h30m\")"
        }
        _ => "both operands must have the same type",
    }
}
