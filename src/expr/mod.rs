//! The condition language: the syntax and semantics of CEL, without messages, bytes and declared types.
//!
//! A [`Program`] is compiled once, when the configuration is loaded, and evaluated on every event. It reads the event through
//! [`Fields`], by the numbers in [`Program::paths`], so that the owner of the fields resolves the paths once. A condition
//! without a value counts as false. The caller counts the reason ([`EvalError::reason`]).
//!
//! Guarantees: no source makes it panic, recurse without bound or compile into unbounded memory. No event makes it panic, and
//! the work for an event is bounded (see [`STEPS_BASE`]).
//! Evaluating a condition on an event's own values allocates nothing once the buffers are warm. Missing fields are errors,
//! except in `has`, which is false if any part of the path is missing.

mod arithmetic;
mod ast;
mod blame;
mod check;
mod compile;
mod dashes;
mod doubts;
mod error;
mod eval;
mod functions;
mod json;
mod lexer;
mod macros;
mod node;
mod origin;
mod parser;
mod quick;
#[cfg(test)]
mod tests;
mod time;
mod value;
mod work;

pub use doubts::Doubt;
pub use error::{EvalError, ExprError};
pub use eval::{FieldValue, Fields, Scratch};
pub use origin::{FUNCTION, Origin};
pub use value::{List, Map, Text, Value};
pub use work::{STEPS_BASE, STEPS_PER_BYTE};

use crate::codec::marked;
use crate::codec::path::Path;
use check::Type;
use compile::Compiler;
use eval::{Machine, NoFields};
use node::Node;
use regex_automata::meta::Regex;
use std::ops::Range;
use std::sync::Arc;

/// The largest size of a source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 64 << 10;

/// The number of a path in [`Program::paths`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathIndex(pub u32);

impl PathIndex {
    /// As an index into [`Program::paths`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A compiled expression. Copies are cheap and share the compiled program.
#[derive(Clone, Debug)]
pub struct Program {
    /// With the values of variables marked.
    marked: Arc<str>,
    source: Arc<str>,
    root: Arc<Node>,
    paths: Arc<[Path]>,
    origins: Arc<[Origin]>,
    patterns: Arc<[Regex]>,
    doubts: Arc<[Doubt]>,
}

impl Program {
    /// Compiles a condition. An expression that can never be true or false is rejected.
    pub fn compile(source: &str) -> Result<Program, ExprError> {
        let (program, found) = Program::build(source)?;
        program.refuse_hopeless()?;
        if found.may_be(&[Type::Bool]) {
            return Ok(program);
        }
        let error = ExprError::new(program.written(), format!("a condition must be a bool, this is {found}"));
        Err(error.help("compare it with something: `status >= 500`"))
    }

    /// Compiles an expression whose value may have any type.
    pub fn compile_value(source: &str) -> Result<Program, ExprError> {
        let (program, _) = Program::build(source)?;
        program.refuse_hopeless()?;
        Ok(program)
    }

    /// Rejects an expression that reads no field and has no value: it never will have one.
    fn refuse_hopeless(&self) -> Result<(), ExprError> {
        if !self.paths.is_empty() || !self.origins.is_empty() {
            return Ok(());
        }
        let Err(error) = self.evaluate(&NoFields, &mut Scratch::default()) else { return Ok(()) };
        let error = ExprError::new(self.written(), format!("this gives no value, for whatever event: {error}"));
        Err(error.help("name a field of the event: `status >= 500`"))
    }

    /// The source without surrounding white space.
    fn written(&self) -> Range<usize> {
        self.marked.len() - self.marked.trim_start().len()..self.marked.trim_end().len()
    }

    fn build(source: &str) -> Result<(Program, Type), ExprError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("an expression of more than {SOURCE_BYTES_MAX} bytes");
            return Err(ExprError::new(0..0, message).help("keep long lists in a table and use `enrich`"));
        }
        let expr = parser::parse(source)?;
        let mut compiler = Compiler::default();
        let (root, found) = compiler.node(&expr)?;
        let program = Program {
            marked: source.into(),
            source: marked::shown(source).into(),
            root: Arc::new(root),
            paths: compiler.paths.into(),
            origins: compiler.origins.into(),
            patterns: compiler.patterns.into(),
            doubts: doubts::doubts(&expr, source).into(),
        };
        Ok((program, found))
    }

    /// The source, with variables as references.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether both were compiled from the same source, with the same values of variables.
    pub fn is_same(&self, other: &Program) -> bool {
        self.marked == other.marked
    }

    /// All in it that is probably a mistake, if it is a condition.
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// Every path that it can read, each once, in the order of their numbers.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// The parts of the origin that it can read, each once.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Buffers for [`Program::test`], warm.
    pub fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::default();
        scratch.fit(&self.patterns);
        scratch
    }

    /// Whether the condition is true for an event. An error counts as false.
    pub fn test<F: Fields + ?Sized>(&self, fields: &F, scratch: &mut Scratch) -> Result<bool, EvalError> {
        scratch.fit(&self.patterns);
        let mut machine = Machine::new(&self.patterns, fields, scratch);
        let told = machine.test(&self.root, None);
        machine.work.end(told)
    }

    /// The value for an event.
    pub fn evaluate<'a, F: Fields + ?Sized>(
        &'a self,
        fields: &'a F,
        scratch: &mut Scratch,
    ) -> Result<Value<'a>, EvalError> {
        scratch.fit(&self.patterns);
        let mut machine = Machine::new(&self.patterns, fields, scratch);
        let value = machine.value(&self.root, None);
        machine.work.end(value)
    }

    /// An error for people, with the fields of the event that are to blame, their values and what does not accept them.
    pub fn explain_on<F: Fields + ?Sized>(&self, error: EvalError, fields: &F) -> String {
        blame::explain(self, error, fields)
    }

    /// An error for people, with the path of the missing field.
    pub fn explain(&self, error: EvalError) -> String {
        match error {
            EvalError::NoSuchField(path) => match self.paths.get(path.index()) {
                Some(path) => format!("the event has no field `{path}`"),
                None => error.to_string(),
            },
            _ => error.to_string(),
        }
    }
}
