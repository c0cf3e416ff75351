//! The syntax tree of an expression: made by the parser, read by the compiler.

use super::value::Value;
use std::ops::Range;

/// One operation with its place in the source.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub kind: Kind,
    pub span: Range<usize>,
    /// The depth of the tree below, this operation included. It bounds the recursion of everything that walks the tree.
    pub height: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Value<'static>),
    Name(String),
    Select(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `&&`, any number of operands.
    And(Vec<Expr>),
    /// `||`, any number of operands.
    Or(Vec<Expr>),
    Choose(Box<[Expr; 3]>),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Call(Call),
}

/// `name(arguments)` or `receiver.name(arguments)`.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub receiver: Option<Box<Expr>>,
    pub name: String,
    pub name_span: Range<usize>,
    pub arguments: Vec<Expr>,
}

/// An operator between two operands, other than `&&` and `||`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Compare(Comparison),
    Arithmetic(Arithmetic),
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Comparison {
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

impl Arithmetic {
    pub fn symbol(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        }
    }
}
