//! The arithmetic operators.
//!
//! Guarantees: a result outside the range of its type is an error, never a wrapped number. Both operands must have the same
//! type, except timestamps and durations. Doubles follow IEEE 754, including infinities and NaN.

use super::ast::Arithmetic;
use super::error::EvalError;
use super::time;
use super::value::{List, Text, Value};

/// The result of the operator for two values.
pub(super) fn compute<'a>(operator: Arithmetic, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, EvalError> {
    use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            if right == 0 && matches!(operator, Divide | Remainder) {
                return Err(EvalError::DivisionByZero);
            }
            let result = match operator {
                Add => left.checked_add(right),
                Subtract => left.checked_sub(right),
                Multiply => left.checked_mul(right),
                Divide => left.checked_div(right),
                Remainder => left.checked_rem(right),
            };
            result.map(Value::Int).ok_or(EvalError::Overflow)
        }
        (Value::Uint(left), Value::Uint(right)) => {
            if right == 0 && matches!(operator, Divide | Remainder) {
                return Err(EvalError::DivisionByZero);
            }
            let result = match operator {
                Add => left.checked_add(right),
                Subtract => left.checked_sub(right),
                Multiply => left.checked_mul(right),
                Divide => left.checked_div(right),
                Remainder => left.checked_rem(right),
            };
            result.map(Value::Uint).ok_or(EvalError::Overflow)
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(match operator {
            Add => left + right,
            Subtract => left - right,
            Multiply => left * right,
            Divide => left / right,
            Remainder => return Err(EvalError::NoSuchOverload("%")),
        })),
        (left, right) if operator == Add => add(left, right),
        (left, right) if operator == Subtract => match (left, right) {
            (Value::Timestamp(left), Value::Timestamp(right)) => duration(left - right),
            (Value::Timestamp(left), Value::Duration(right)) => timestamp(left - right),
            (Value::Duration(left), Value::Duration(right)) => duration(left - right),
            _ => Err(EvalError::NoSuchOverload("-")),
        },
        _ => Err(EvalError::NoSuchOverload(operator.symbol())),
    }
}

/// The negative of a number.
pub(super) fn negate(value: Value<'_>) -> Result<Value<'_>, EvalError> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(EvalError::Overflow),
        Value::Double(value) => Ok(Value::Double(-value)),
        _ => Err(EvalError::NoSuchOverload("-")),
    }
}

fn add<'a>(left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, EvalError> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            let mut text = left.decoded().into_owned();
            text.extend_from_slice(&right.decoded());
            Ok(Value::String(Text::Owned(text)))
        }
        (Value::List(left), Value::List(right)) => {
            let mut values = Vec::with_capacity(left.len() + right.len());
            for list in [left, right] {
                list.each(|value| {
                    values.push(value);
                    Ok(true)
                })?;
            }
            Ok(Value::List(List::Built(values)))
        }
        (Value::Timestamp(moment), Value::Duration(length)) | (Value::Duration(length), Value::Timestamp(moment)) => {
            timestamp(moment + length)
        }
        (Value::Duration(left), Value::Duration(right)) => duration(left + right),
        _ => Err(EvalError::NoSuchOverload("+")),
    }
}

fn timestamp<'a>(nanos: i128) -> Result<Value<'a>, EvalError> {
    time::timestamp(nanos).map(Value::Timestamp).ok_or(EvalError::Overflow)
}

fn duration<'a>(nanos: i128) -> Result<Value<'a>, EvalError> {
    time::duration(nanos).map(Value::Duration).ok_or(EvalError::Overflow)
}
