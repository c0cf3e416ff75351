//! Parses tokens to a tree, by the precedence of operators.
//!
//! Guarantees: the tree is never deeper than [`DEPTH_MAX`], so that nothing that walks it can overflow the stack, whatever the
//! source. A chain of `&&` or `||` counts as one level, however long. Knows neither types nor functions.

use super::ast::{Arithmetic, Binary, Call, Comparison, Expr, Kind};
use super::error::ExprError;
use super::lexer::{Spanned, Token, tokens};
use super::value::{Text, Value};
use std::ops::Range;

/// The largest depth of an expression.
pub(super) const DEPTH_MAX: usize = 64;

/// The largest number of elements of a list or map, and of arguments of a call.
pub(super) const ELEMENTS_MAX: usize = 4_096;

/// Parses a whole source.
pub(super) fn parse(source: &str) -> Result<Expr, ExprError> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0 };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.expected("an operator or the end")),
    }
}

/// What to write for `not in` of other languages.
const NOT_IN: &str = "write `!(field in [\"a\", \"b\"])`";

enum Operator {
    And,
    Or,
    Binary(Binary),
}

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn span(&self) -> Range<usize> {
        self.tokens[self.at].1.clone()
    }

    fn advance(&mut self) -> Spanned {
        let taken = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        taken
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn need(&mut self, symbol: &str) -> Result<Range<usize>, ExprError> {
        if self.is(symbol) { Ok(self.advance().1) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    fn expected(&self, what: &str) -> ExprError {
        let (token, span) = &self.tokens[self.at];
        let found = match token {
            Token::Word(word) => format!("`{word}`"),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::Quoted(name) => format!("the name `{name}`"),
            Token::String(_) => "a string".to_owned(),
            Token::Int(_) | Token::Uint(_) | Token::Double(_) => "a number".to_owned(),
            Token::End => "the end".to_owned(),
        };
        // The unexpected token, or the one before it, may be an operator of another language.
        let before = self.at.checked_sub(1).map(|before| &self.tokens[before]);
        if let Some((Token::Word(word), span)) = before
            && word.eq_ignore_ascii_case("not")
        {
            let help = if self.is_in(self.at) { NOT_IN } else { "write `!`" };
            return ExprError::new(span.clone(), format!("`{word}` is not an operator")).help(help);
        }
        let error = ExprError::new(span.clone(), format!("expected {what}, found {found}"));
        let before = before.map(|(token, _)| token);
        match token {
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "and" => error.help("write `&&`"),
                "or" => error.help("write `||`"),
                "not" if self.is_in(self.at + 1) => error.help(NOT_IN),
                "not" => error.help("write `!`"),
                "is" | "eq" | "equals" => error.help("write `==`"),
                "ne" | "neq" => error.help("write `!=`"),
                "gt" => error.help("write `>`"),
                "ge" | "gte" => error.help("write `>=`"),
                "lt" => error.help("write `<`"),
                "le" | "lte" => error.help("write `<=`"),
                "if" | "then" | "else" => error.help("write `condition ? value : other`"),
                "like" | "matches" => error.help("write `field.matches(\"pattern\")`"),
                word @ ("contains" | "startswith" | "endswith") => {
                    let name = match word {
                        "startswith" => "startsWith",
                        "endswith" => "endsWith",
                        name => name,
                    };
                    error.help(format!("write `field.{name}(\"text\")`"))
                }
                _ => error,
            },
            Token::Symbol(">") if before == Some(&Token::Symbol("<")) => error.help("write `!=`"),
            Token::Symbol("!") if self.is_in(self.at + 1) => error.help(NOT_IN),
            Token::Symbol("!") => error.help("for unequal, write `!=`; to negate a condition, write `!(condition)`"),
            _ if what == "`:`" => error.help("write `condition ? value : other`"),
            Token::End => match (what, before) {
                ("`)`" | "`]`" | "`}`", _) => {
                    error.help(format!("{what} is missing: each bracket that opens must close"))
                }
                ("`,` or `)`" | "`,` or `]`" | "`,` or `}`", _) => {
                    let close = &what[what.len() - 3..];
                    error.help(format!("{close} is missing: each bracket that opens must close"))
                }
                (_, Some(Token::Symbol(symbol))) => error.help(format!("write a value after `{symbol}`, or remove it")),
                (_, Some(Token::Word(word))) => error.help(format!("write a value after `{word}`")),
                (_, None) => error.help("write a condition such as `status >= 500`"),
                _ => error,
            },
            Token::Symbol(",") if matches!(what, "`)`" | "an operator or the end") => {
                error.help("write a list in brackets: [\"a\", \"b\"]")
            }
            Token::Symbol("{") => error.help("write a map as a value of its own: {\"name\": value}"),
            _ => error,
        }
    }

    fn is_in(&self, at: usize) -> bool {
        matches!(self.tokens.get(at), Some((Token::Word(word), _)) if word.eq_ignore_ascii_case("in"))
    }

    /// Goes one level down, up to [`DEPTH_MAX`].
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Parser) -> Result<T, ExprError>) -> Result<T, ExprError> {
        if self.depth == DEPTH_MAX {
            return Err(too_deep(self.span()));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn expression(&mut self) -> Result<Expr, ExprError> {
        self.deeper(|parser| {
            let condition = parser.binary(1)?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let yes = parser.expression()?;
            parser.need(":")?;
            let no = parser.expression()?;
            let span = condition.span.start..no.span.end;
            let height = condition.height.max(yes.height).max(no.height);
            tree(Kind::Choose(Box::new([condition, yes, no])), span, height)
        })
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        let compare = |comparison| Some((Operator::Binary(Binary::Compare(comparison)), 3));
        let compute = |arithmetic, level| Some((Operator::Binary(Binary::Arithmetic(arithmetic)), level));
        match self.peek() {
            Token::Symbol("||") => Some((Operator::Or, 1)),
            Token::Symbol("&&") => Some((Operator::And, 2)),
            Token::Symbol("==") => compare(Comparison::Equal),
            Token::Symbol("!=") => compare(Comparison::NotEqual),
            Token::Symbol("<") => compare(Comparison::Less),
            Token::Symbol("<=") => compare(Comparison::LessOrEqual),
            Token::Symbol(">") => compare(Comparison::Greater),
            Token::Symbol(">=") => compare(Comparison::GreaterOrEqual),
            Token::Word(word) if word == "in" => Some((Operator::Binary(Binary::In), 3)),
            Token::Symbol("+") => compute(Arithmetic::Add, 4),
            Token::Symbol("-") => compute(Arithmetic::Subtract, 4),
            Token::Symbol("*") => compute(Arithmetic::Multiply, 5),
            Token::Symbol("/") => compute(Arithmetic::Divide, 5),
            Token::Symbol("%") => compute(Arithmetic::Remainder, 5),
            _ => None,
        }
    }

    fn binary(&mut self, least: u8) -> Result<Expr, ExprError> {
        let mut left = self.unary()?;
        while let Some((operator, level)) = self.operator().filter(|(_, level)| *level >= least) {
            self.advance();
            let right = self.binary(level + 1)?;
            left = join(operator, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, ExprError> {
        let start = self.span().start;
        let not = self.is("!");
        if !not && !self.is("-") {
            return self.member();
        }
        self.advance();
        if let (false, Token::Int(digits)) = (not, self.peek()) {
            // The smallest int has no positive counterpart, so the sign belongs to the literal.
            let Some(value) = 0i64.checked_sub_unsigned(*digits) else { return Err(self.too_large()) };
            let end = self.advance().1.end;
            let literal = tree(Kind::Literal(Value::Int(value)), start..end, 0)?;
            return self.behind(literal);
        }
        let inner = self.deeper(Parser::unary)?;
        let (span, height) = (start..inner.span.end, inner.height);
        let inner = Box::new(inner);
        tree(if not { Kind::Not(inner) } else { Kind::Negate(inner) }, span, height)
    }

    fn too_large(&self) -> ExprError {
        ExprError::new(self.span(), "a number outside the range of int")
            .help("for a uint, append `u`; for a double, write 1e19")
    }

    fn member(&mut self) -> Result<Expr, ExprError> {
        let primary = self.primary()?;
        self.behind(primary)
    }

    /// What may follow a value: `.name`, `.name(...)`, `[...]`.
    fn behind(&mut self, mut value: Expr) -> Result<Expr, ExprError> {
        loop {
            let (start, height) = (value.span.start, value.height);
            if self.take("[") {
                let index = self.expression()?;
                let end = self.need("]")?.end;
                let height = height.max(index.height);
                value = tree(Kind::Index(Box::new(value), Box::new(index)), start..end, height)?;
            } else if self.take(".") {
                let (name, name_span) = self.name()?;
                if !self.take("(") {
                    value = tree(Kind::Select(Box::new(value), name), start..name_span.end, height)?;
                    continue;
                }
                let (arguments, end) = self.elements(")")?;
                let height = arguments.iter().map(|argument| argument.height).max().unwrap_or(0).max(height);
                let call = Call { receiver: Some(Box::new(value)), name, name_span, arguments };
                value = tree(Kind::Call(call), start..end, height)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn name(&mut self) -> Result<(String, Range<usize>), ExprError> {
        match self.peek() {
            Token::Word(_) | Token::Quoted(_) => match self.advance() {
                (Token::Word(name) | Token::Quoted(name), span) => Ok((name, span)),
                (_, span) => Err(ExprError::new(span, "expected a name")),
            },
            _ => {
                let error = self.expected("a name after the dot");
                Err(error.help("write a name with other characters in brackets: labels[\"a.b\"]"))
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, ExprError> {
        let (token, span) = (self.peek().clone(), self.span());
        let literal = match token {
            Token::Int(digits) => Value::Int(i64::try_from(digits).map_err(|_| self.too_large())?),
            Token::Uint(value) => Value::Uint(value),
            Token::Double(value) => Value::Double(value),
            Token::String(text) => Value::String(Text::Owned(text.into_bytes())),
            Token::Word(word) if word == "true" => Value::Bool(true),
            Token::Word(word) if word == "false" => Value::Bool(false),
            Token::Word(word) if word == "null" => Value::Null,
            Token::Word(word) if word == "in" => return Err(self.expected("a value before `in`")),
            Token::Word(name) => return self.word(name, span),
            Token::Quoted(name) => {
                self.advance();
                return tree(Kind::Name(name), span, 0);
            }
            Token::Symbol(symbol) => return self.opened(symbol, span),
            Token::End => return Err(self.expected("a value")),
        };
        self.advance();
        tree(Kind::Literal(literal), span, 0)
    }

    fn word(&mut self, name: String, name_span: Range<usize>) -> Result<Expr, ExprError> {
        self.advance();
        if !self.take("(") {
            return tree(Kind::Name(name), name_span, 0);
        }
        let (arguments, end) = self.elements(")")?;
        let height = arguments.iter().map(|argument| argument.height).max().unwrap_or(0);
        let span = name_span.start..end;
        tree(Kind::Call(Call { receiver: None, name, name_span, arguments }), span, height)
    }

    fn opened(&mut self, symbol: &'static str, span: Range<usize>) -> Result<Expr, ExprError> {
        match symbol {
            "(" => {
                self.advance();
                let mut inner = self.expression()?;
                let end = self.need(")")?.end;
                inner.span = span.start..end;
                Ok(inner)
            }
            "[" => {
                self.advance();
                let (elements, end) = self.elements("]")?;
                let height = elements.iter().map(|element| element.height).max().unwrap_or(0);
                tree(Kind::List(elements), span.start..end, height)
            }
            "{" => self.map(span.start),
            "." => {
                self.advance();
                let (name, name_span) = self.name()?;
                tree(Kind::Name(name), span.start..name_span.end, 0)
            }
            _ => Err(self.expected("a value")),
        }
    }

    /// Elements up to the closing symbol, a comma behind the last one allowed, and the end of that symbol.
    fn elements(&mut self, close: &str) -> Result<(Vec<Expr>, usize), ExprError> {
        let mut elements = Vec::new();
        loop {
            if self.is(close) {
                return Ok((elements, self.advance().1.end));
            }
            self.room(elements.len())?;
            elements.push(self.expression()?);
            if !self.take(",") {
                if !self.is(close) {
                    return Err(self.expected(&format!("`,` or `{close}`")));
                }
            } else if close == ")" && self.is(close) {
                return Err(self.expected("an argument after the comma"));
            }
        }
    }

    fn room(&self, elements: usize) -> Result<(), ExprError> {
        if elements < ELEMENTS_MAX {
            return Ok(());
        }
        let message = format!("more than {ELEMENTS_MAX} elements");
        Err(ExprError::new(self.span(), message).help("keep the values in a table and use `enrich`"))
    }

    fn map(&mut self, start: usize) -> Result<Expr, ExprError> {
        self.advance();
        let mut entries = Vec::new();
        let mut height = 0;
        while !self.is("}") {
            self.room(entries.len())?;
            let key = self.expression()?;
            self.need(":")?;
            let value = self.expression()?;
            height = height.max(key.height).max(value.height);
            entries.push((key, value));
            if !self.take(",") && !self.is("}") {
                return Err(self.expected("`,` or `}`"));
            }
        }
        let end = self.advance().1.end;
        tree(Kind::Map(entries), start..end, height)
    }
}

fn too_deep(span: Range<usize>) -> ExprError {
    let message = format!("nested more than {DEPTH_MAX} levels deep");
    ExprError::new(span, message).help("split it into several conditions")
}

/// A node above others, the highest of which has `below` levels.
fn tree(kind: Kind, span: Range<usize>, below: usize) -> Result<Expr, ExprError> {
    if below >= DEPTH_MAX {
        return Err(too_deep(span));
    }
    Ok(Expr { kind, span, height: below + 1 })
}

fn join(operator: Operator, left: Expr, right: Expr) -> Result<Expr, ExprError> {
    let span = left.span.start..right.span.end;
    let height = left.height.max(right.height);
    let chain = |left: Expr, right: Expr, same: fn(Kind) -> Result<Vec<Expr>, Kind>| {
        let (left_height, left_span, right_height) = (left.height, left.span.clone(), right.height);
        match same(left.kind) {
            Ok(mut operands) => {
                operands.push(right);
                // The chain's own level is counted already.
                (operands, (left_height - 1).max(right_height))
            }
            Err(kind) => (vec![Expr { kind, span: left_span, height: left_height }, right], height),
        }
    };
    match operator {
        Operator::Binary(binary) => tree(Kind::Binary(binary, Box::new(left), Box::new(right)), span, height),
        Operator::And => {
            let (operands, height) = chain(left, right, |kind| match kind {
                Kind::And(operands) => Ok(operands),
                other => Err(other),
            });
            tree(Kind::And(operands), span, height)
        }
        Operator::Or => {
            let (operands, height) = chain(left, right, |kind| match kind {
                Kind::Or(operands) => Ok(operands),
                other => Err(other),
            });
            tree(Kind::Or(operands), span, height)
        }
    }
}
