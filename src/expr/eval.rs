//! Evaluates an expression on an event.
//!
//! Guarantees: a condition over an event's own fields allocates nothing once the buffers are warm. Computed values allocate:
//! concatenated strings and lists, `string()`, entries of maps, the index of a large map that a walk searches. Never panics, and
//! never recurses deeper than the expression. What a walk does is bounded (see [`super::work`]): every part of it that is
//! evaluated, and every byte that it reads, counts. `&&` and `||` evaluate their operands in order; a decisive operand outweighs
//! an error of another, except of too much work.

use super::PathIndex;
use super::arithmetic::{compute, negate};
use super::ast::Comparison;
use super::error::EvalError;
use super::json::value_of;
use super::node::{Node, Walk, WalkKind};
use super::origin::Origin;
use super::quick;
use super::value::{List, Map, Text, Value};
use super::work::{Work, steps_of, steps_of_json};
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};
use std::cmp::Ordering;
use std::sync::Arc;

/// The fields of one event.
pub trait Fields {
    /// The value at the path with this number, if the event has one.
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>>;

    /// The bytes that are searched for it, each time.
    fn searched_bytes(&self, path: PathIndex) -> usize {
        let _ = path;
        0
    }

    /// What the input knows about the event, if it knows this.
    fn origin(&self, part: Origin) -> Option<FieldValue<'_>> {
        let _ = part;
        None
    }
}

/// The value of a field as stored in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// The JSON of a value: valid, without surrounding white space.
    Json(&'a [u8]),
    /// A string without escapes; it may contain invalid UTF-8.
    Text(&'a [u8]),
}

/// Buffers that are reused between evaluations: one for each program and shard. They also work with another program, but the
/// pattern caches are then rebuilt.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) left: Vec<u8>,
    pub(super) right: Vec<u8>,
    /// The patterns of the caches.
    patterns: Option<Arc<[Regex]>>,
    caches: Vec<Cache>,
}

impl Scratch {
    /// Makes the caches fit the patterns.
    pub(super) fn fit(&mut self, patterns: &Arc<[Regex]>) {
        let fits = self.patterns.as_ref().is_some_and(|own| Arc::ptr_eq(own, patterns));
        if !fits && !patterns.is_empty() {
            self.caches = patterns.iter().map(Regex::create_cache).collect();
            self.patterns = Some(Arc::clone(patterns));
        }
    }
}

/// An event without fields, for constant expressions.
pub(super) struct NoFields;

impl Fields for NoFields {
    fn get(&self, _: PathIndex) -> Option<FieldValue<'_>> {
        None
    }
}

/// The variable of a macro, and those of the enclosing macros.
pub(super) struct Scope<'s, 'a> {
    value: Value<'a>,
    outer: Option<&'s Scope<'s, 'a>>,
}

type Scopes<'s, 'a> = Option<&'s Scope<'s, 'a>>;

/// One evaluation.
pub(super) struct Machine<'a, 's, F: ?Sized> {
    pub patterns: &'a [Regex],
    pub fields: &'a F,
    pub scratch: &'s mut Scratch,
    pub work: Work<'a>,
}

impl<'a, 's, F: Fields + ?Sized> Machine<'a, 's, F> {
    pub fn new(patterns: &'a [Regex], fields: &'a F, scratch: &'s mut Scratch) -> Self {
        Machine { patterns, fields, scratch, work: Work::new() }
    }

    /// Evaluates a condition. Nested conditions are evaluated here directly, without making values.
    pub fn test(&mut self, node: &'a Node, scopes: Scopes<'_, 'a>) -> Result<bool, EvalError> {
        self.count(1, scopes)?;
        match node {
            Node::And(operands) => self.first(operands, false, scopes),
            Node::Or(operands) => self.first(operands, true, scopes),
            Node::Not(inner) => self.test(inner, scopes).map(|value| !value).map_err(|error| match error {
                EvalError::NotBool => EvalError::NoSuchOverload("!"),
                other => other,
            }),
            Node::HasField(path) => Ok(self.field(*path, scopes)?.is_some()),
            Node::HasOrigin(part) => Ok(self.fields.origin(*part).is_some()),
            Node::Has(of, name) => self.has(of, name, scopes),
            Node::Compare(comparison, operands) => {
                if let [Node::Field(path), Node::Constant(constant)] = &**operands
                    && let Some(field) = self.field(*path, scopes)?
                    && let Some(holds) = quick::compare(*comparison, field, constant)
                {
                    return Ok(holds);
                }
                let left = self.value(&operands[0], scopes)?;
                let right = self.value(&operands[1], scopes)?;
                compare(*comparison, &left, &right)
            }
            Node::InSet(needle, set) => set.contains(&self.value(needle, scopes)?),
            Node::In(operands) => {
                let needle = self.value(&operands[0], scopes)?;
                let range = self.read(&operands[1], scopes)?;
                match &range {
                    Value::Map(map) if needle.may_be_key() => Ok(self.look_up(map, &needle, scopes)?.is_some()),
                    Value::List(list) => {
                        self.count(steps_of(&range), scopes)?;
                        is_in(&needle, list)
                    }
                    _ => Err(EvalError::NoSuchOverload("in")),
                }
            }
            Node::Test(function, operands) => {
                let text = self.value(&operands[0], scopes)?;
                let other = self.value(&operands[1], scopes)?;
                function.test(&text, &other, self.scratch)
            }
            Node::Matches(text, pattern) => {
                let Value::String(text) = self.value(text, scopes)? else {
                    return Err(EvalError::NoSuchOverload("matches"));
                };
                self.count(text.bytes() as u64, scopes)?;
                let Scratch { left, caches, .. } = &mut *self.scratch;
                let input = Input::new(text.read(left)).earliest(true);
                let (regex, cache) = (&self.patterns[*pattern], &mut caches[*pattern]);
                Ok(regex.search_half_with(cache, &input).is_some())
            }
            Node::Walk(walk) if !matches!(walk.kind, WalkKind::Filter | WalkKind::Map) => self.ask_all(walk, scopes),
            Node::Choose(branches) => {
                let branch = if self.condition(&branches[0], scopes)? { &branches[1] } else { &branches[2] };
                self.test(branch, scopes)
            }
            _ => match self.value(node, scopes)? {
                Value::Bool(value) => Ok(value),
                _ => Err(EvalError::NotBool),
            },
        }
    }

    /// The value of any expression, which the caller reads.
    #[inline]
    pub fn value(&mut self, node: &'a Node, scopes: Scopes<'_, 'a>) -> Result<Value<'a>, EvalError> {
        let value = self.read(node, scopes)?;
        if scopes.is_some() {
            self.work.take(steps_of(&value))?;
        }
        Ok(value)
    }

    /// Counts steps inside a walk.
    #[inline]
    fn count(&mut self, steps: u64, scopes: Scopes<'_, 'a>) -> Result<(), EvalError> {
        if scopes.is_some() { self.work.take(steps) } else { Ok(()) }
    }

    /// A field, with what its search costs inside a walk.
    #[inline]
    fn field(&mut self, path: PathIndex, scopes: Scopes<'_, 'a>) -> Result<Option<FieldValue<'a>>, EvalError> {
        let fields = self.fields;
        if scopes.is_none() {
            return Ok(fields.get(path));
        }
        let found = match fields.searched_bytes(path) {
            0 => fields.get(path),
            bytes => self.work.field(path, bytes, || fields.get(path))?,
        };
        if let Some(FieldValue::Json(json)) = found {
            self.work.take(steps_of_json(json))?;
        }
        Ok(found)
    }

    /// The value of a key.
    fn look_up(
        &mut self,
        map: &Map<'a>,
        key: &Value<'_>,
        scopes: Scopes<'_, 'a>,
    ) -> Result<Option<Value<'a>>, EvalError> {
        if scopes.is_none() {
            return map.get(key);
        }
        match (map, key) {
            (Map::Json(json), Value::String(key)) => {
                let Some(found) = self.work.find(json, key)? else { return Ok(None) };
                self.work.take(steps_of_json(found))?;
                value_of(found).map(Some)
            }
            (Map::Json(_), _) => Ok(None),
            (Map::Shared(_) | Map::Built(_), _) => {
                self.work.take(map.len() as u64)?;
                map.get(key)
            }
        }
    }

    /// The value of any expression, of which the caller counts what it reads.
    fn read(&mut self, node: &'a Node, scopes: Scopes<'_, 'a>) -> Result<Value<'a>, EvalError> {
        match node {
            Node::Constant(value) => Ok(value.view()),
            Node::Field(path) => match self.field(*path, scopes)? {
                Some(FieldValue::Json(json)) => value_of(json),
                Some(FieldValue::Text(text)) => Ok(Value::String(Text::Plain(text))),
                None => Err(EvalError::NoSuchField(*path)),
            },
            Node::Origin(part) => match self.fields.origin(*part) {
                Some(FieldValue::Json(json)) => value_of(json),
                Some(FieldValue::Text(text)) => Ok(Value::String(Text::Plain(text))),
                None => Err(EvalError::NoSuchKey),
            },
            Node::Variable(out) => Ok(variable(*out, scopes)),
            Node::Select(of, name) => match self.read(of, scopes)? {
                Value::Map(map) => {
                    let key = Value::String(Text::Plain(name.as_bytes()));
                    self.look_up(&map, &key, scopes)?.ok_or(EvalError::NoSuchKey)
                }
                _ => Err(EvalError::NoSuchOverload("selection of a field")),
            },
            Node::Index(operands) => {
                let of = self.read(&operands[0], scopes)?;
                let index = self.value(&operands[1], scopes)?;
                if let Value::Map(map) = &of {
                    return self.look_up(map, &index, scopes)?.ok_or(EvalError::NoSuchKey);
                }
                self.count(steps_of(&of), scopes)?;
                index_into(&of, &index)
            }
            Node::Negate(inner) => negate(self.value(inner, scopes)?),
            Node::Compute(operator, operands) => {
                let left = self.value(&operands[0], scopes)?;
                let right = self.value(&operands[1], scopes)?;
                compute(*operator, left, right)
            }
            Node::Choose(branches) => {
                let branch = if self.condition(&branches[0], scopes)? { &branches[1] } else { &branches[2] };
                self.value(branch, scopes)
            }
            Node::Call(function, operand) => function.call_one(self.value(operand, scopes)?),
            Node::List(elements) => {
                let values = elements.iter().map(|element| self.value(element, scopes));
                Ok(Value::List(List::Built(values.collect::<Result<_, _>>()?)))
            }
            Node::Map(entries) => self.build_map(entries, scopes),
            Node::Walk(walk) if matches!(walk.kind, WalkKind::Filter | WalkKind::Map) => self.collect(walk, scopes),
            // All others are conditions.
            _ => self.test(node, scopes).map(Value::Bool),
        }
    }

    /// The first decisive operand, else the first error, else the other result.
    fn first(&mut self, operands: &'a [Node], decisive: bool, scopes: Scopes<'_, 'a>) -> Result<bool, EvalError> {
        let mut result = Ok(!decisive);
        for operand in operands {
            match self.condition(operand, scopes) {
                Ok(value) if value == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(EvalError::TooMuchWork) => return Err(EvalError::TooMuchWork),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// A part of a condition.
    fn condition(&mut self, node: &'a Node, scopes: Scopes<'_, 'a>) -> Result<bool, EvalError> {
        self.test(node, scopes).map_err(|error| match error {
            EvalError::NotBool => EvalError::NoSuchOverload("a condition"),
            other => other,
        })
    }

    fn has(&mut self, of: &'a Node, name: &str, scopes: Scopes<'_, 'a>) -> Result<bool, EvalError> {
        match self.read(of, scopes) {
            Ok(Value::Map(map)) => {
                let key = Value::String(Text::Plain(name.as_bytes()));
                Ok(self.look_up(&map, &key, scopes)?.is_some())
            }
            Ok(_) => Ok(false),
            Err(EvalError::NoSuchField(_) | EvalError::NoSuchKey | EvalError::IndexOutOfBounds) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn build_map(&mut self, entries: &'a [(Node, Node)], scopes: Scopes<'_, 'a>) -> Result<Value<'a>, EvalError> {
        let mut built: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (key, value) = (self.value(key, scopes)?, self.value(value, scopes)?);
            if !matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_)) {
                return Err(EvalError::NoSuchOverload("the key of a map"));
            }
            for (other, _) in &built {
                if other.equals(&key)? {
                    return Err(EvalError::DuplicateKey);
                }
            }
            built.push((key, value));
        }
        Ok(Value::Map(Map::Built(built)))
    }

    /// Passes the elements of a list, or the keys of a map, to `take` until it stops.
    fn walk(
        &mut self,
        walk: &'a Walk,
        scopes: Scopes<'_, 'a>,
        mut take: impl FnMut(&mut Self, &Scope<'_, 'a>) -> Result<bool, EvalError>,
    ) -> Result<(), EvalError> {
        let range = self.read(&walk.range, scopes)?;
        match scopes {
            None => self.work.begin(&range)?,
            Some(_) => self.work.take(steps_of(&range))?,
        }
        match range {
            Value::List(list) => list.each(|value| {
                self.work.take(1)?;
                take(self, &Scope { value, outer: scopes })
            }),
            Value::Map(map) => {
                for (value, _) in map.entries()? {
                    self.work.take(1)?;
                    if !take(self, &Scope { value, outer: scopes })? {
                        break;
                    }
                }
                Ok(())
            }
            _ => Err(EvalError::NoSuchOverload("a macro")),
        }
    }

    fn ask(&mut self, walk: &'a Walk, scope: &Scope<'_, 'a>) -> Result<bool, EvalError> {
        match &walk.condition {
            Some(condition) => self.condition(condition, Some(scope)),
            None => Ok(true),
        }
    }

    fn ask_all(&mut self, walk: &'a Walk, scopes: Scopes<'_, 'a>) -> Result<bool, EvalError> {
        if walk.kind == WalkKind::ExistsOne {
            let mut found = 0usize;
            self.walk(walk, scopes, |machine, scope| {
                found += usize::from(machine.ask(walk, scope)?);
                Ok(true)
            })?;
            return Ok(found == 1);
        }
        let decisive = walk.kind == WalkKind::Exists;
        let mut result = Ok(!decisive);
        self.walk(walk, scopes, |machine, scope| {
            match machine.ask(walk, scope) {
                Ok(value) if value == decisive => result = Ok(decisive),
                Ok(_) => return Ok(true),
                Err(EvalError::TooMuchWork) => return Err(EvalError::TooMuchWork),
                Err(error) => {
                    result = result.and(Err(error));
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        result
    }

    fn collect(&mut self, walk: &'a Walk, scopes: Scopes<'_, 'a>) -> Result<Value<'a>, EvalError> {
        let mut values = Vec::new();
        self.walk(walk, scopes, |machine, scope| {
            if machine.ask(walk, scope)? {
                values.push(match &walk.result {
                    Some(result) => machine.value(result, Some(scope))?,
                    None => scope.value.clone(),
                });
            }
            Ok(true)
        })?;
        Ok(Value::List(List::Built(values)))
    }
}

fn variable<'a>(out: usize, scopes: Scopes<'_, 'a>) -> Value<'a> {
    let mut scope = scopes;
    for _ in 0..out {
        scope = scope.and_then(|inner| inner.outer);
    }
    // The compiler has counted the enclosing macros.
    scope.map_or(Value::Null, |scope| scope.value.clone())
}

fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, EvalError> {
    let order = || left.order(right, comparison.symbol());
    Ok(match comparison {
        Comparison::Equal => left.equals(right)?,
        Comparison::NotEqual => !left.equals(right)?,
        Comparison::Less => order()? == Some(Ordering::Less),
        Comparison::LessOrEqual => order()?.is_some_and(Ordering::is_le),
        Comparison::Greater => order()? == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order()?.is_some_and(Ordering::is_ge),
    })
}

fn is_in(needle: &Value<'_>, list: &List<'_>) -> Result<bool, EvalError> {
    let mut found = false;
    list.each(|value| {
        found = value.equals(needle)?;
        Ok(!found)
    })?;
    Ok(found)
}

fn index_into<'a>(of: &Value<'a>, index: &Value<'_>) -> Result<Value<'a>, EvalError> {
    match of {
        Value::List(list) => {
            let index = match index {
                Value::Double(double) if double.fract() == 0.0 && double.abs() < 1e15 => *double as i128,
                other => other.integer().ok_or(EvalError::NoSuchOverload("an index"))?,
            };
            list.get(usize::try_from(index).map_err(|_| EvalError::IndexOutOfBounds)?)
        }
        _ => Err(EvalError::NoSuchOverload("an index")),
    }
}
