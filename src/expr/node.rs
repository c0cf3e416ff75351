//! The compiled tree: made by the compiler, walked by the evaluator.
//!
//! Guarantees: nothing is looked up by name, and it can be sent to every core.

use super::PathIndex;
use super::ast::{Arithmetic, Comparison};
use super::error::EvalError;
use super::functions::Function;
use super::origin::Origin;
use super::value::{Text, Value};

#[derive(Debug)]
pub(super) enum Node {
    Constant(Value<'static>),
    Field(PathIndex),
    HasField(PathIndex),
    Origin(Origin),
    HasOrigin(Origin),
    /// The variable of a macro: the number of macros between it and its own.
    Variable(usize),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Compare(Comparison, Box<[Node; 2]>),
    Compute(Arithmetic, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    InSet(Box<Node>, Set),
    Choose(Box<[Node; 3]>),
    /// A function of one operand.
    Call(Function, Box<Node>),
    /// A test of a string against another one.
    Test(Function, Box<[Node; 2]>),
    /// A test with the pattern with this number.
    Matches(Box<Node>, usize),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
    Walk(Box<Walk>),
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug)]
pub(super) struct Walk {
    pub kind: WalkKind,
    pub range: Node,
    /// The condition; for `map`, whether an element is included.
    pub condition: Option<Node>,
    /// The result of `map` for an element.
    pub result: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Node {
    pub fn constant(&self) -> Option<&Value<'static>> {
        match self {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }
}

/// The constants of a list after `in`, arranged so that a value is found without comparing all of them.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// Sorted.
    strings: Vec<Box<[u8]>>,
    /// Sorted.
    integers: Vec<i128>,
    others: Vec<Value<'static>>,
}

impl Set {
    pub fn new(values: &[Value<'static>]) -> Set {
        let mut set = Set::default();
        for value in values {
            match value {
                Value::String(text) => set.strings.push(text.decoded().into()),
                _ => match value.integer() {
                    Some(integer) => set.integers.push(integer),
                    None => set.others.push(value.clone()),
                },
            }
        }
        set.strings.sort();
        set.integers.sort_unstable();
        set
    }

    pub fn contains(&self, value: &Value<'_>) -> Result<bool, EvalError> {
        match value {
            Value::String(text) => Ok(self.strings.binary_search_by(|own| Text::Plain(own).compare(text)).is_ok()),
            Value::Int(_) | Value::Uint(_) | Value::Double(_) => {
                let found = match value {
                    // Whole doubles of this size are exact. Other doubles equal no integer.
                    Value::Double(double) if double.fract() == 0.0 && double.abs() < 1e20 => {
                        self.integers.binary_search(&(*double as i128)).is_ok()
                    }
                    _ => value.integer().is_some_and(|integer| self.integers.binary_search(&integer).is_ok()),
                };
                if found { Ok(true) } else { self.among_others(value) }
            }
            _ => self.among_others(value),
        }
    }

    fn among_others(&self, value: &Value<'_>) -> Result<bool, EvalError> {
        for other in &self.others {
            if other.equals(value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
