//! The tokens of an expression: names, literals, symbols, each with its place.
//!
//! Guarantees: any source is split into tokens or rejected with its place. Literals are decoded only here. Comments start with
//! `//` and end at the end of the line. Byte literals (`b"..."`) are not supported.

use super::error::ExprError;
use std::ops::Range;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, or a keyword such as `in`.
    Word(String),
    /// A name in backquotes, which may contain any character.
    Quoted(String),
    /// Digits without a sign; the sign decides whether they fit.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Symbol(&'static str),
    End,
}

/// A token and its bytes in the source.
pub(super) type Spanned = (Token, Range<usize>);

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[", "]", "{", "}",
    ",", ".", "=",
];

/// All tokens of a source, the last one being its end.
pub(super) fn tokens(source: &str) -> Result<Vec<Spanned>, ExprError> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let spanned = lexer.next()?;
        let end = spanned.0 == Token::End;
        tokens.push(spanned);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest().len() - self.rest().trim_start().len();
            self.at += blanks;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Spanned, ExprError> {
        self.skip_blanks();
        let start = self.at;
        let token = match self.byte(0) {
            0 if self.rest().is_empty() => Token::End,
            b'0'..=b'9' => self.number()?,
            b'.' if self.byte(1).is_ascii_digit() => self.number()?,
            b'"' | b'\'' => self.string(false)?,
            b'r' | b'R' if matches!(self.byte(1), b'"' | b'\'') => {
                self.at += 1;
                self.string(true)?
            }
            b'b' | b'B' if matches!(self.byte(1), b'"' | b'\'') => {
                let error = ExprError::new(start..start + 2, "byte strings are not supported");
                return Err(error.help("write a string without the `b`"));
            }
            b'`' => self.backquoted()?,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let length = self.word_length();
                self.at += length;
                Token::Word(self.source[start..self.at].to_owned())
            }
            _ => self.symbol()?,
        };
        Ok((token, start..self.at))
    }

    fn word_length(&self) -> usize {
        self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest().len())
    }

    fn symbol(&mut self) -> Result<Token, ExprError> {
        let rest = self.rest();
        let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
            let c = rest.chars().next().unwrap_or(' ');
            let error =
                ExprError::new(self.at..self.at + c.len_utf8(), format!("unexpected character `{}`", c.escape_debug()));
            return Err(error.help(match c {
                '&' => "for `and`, write `&&`",
                '|' => "for `or`, write `||`",
                '@' => "put a name with characters other than letters, digits and `_` in backquotes: `@timestamp`",
                '$' => "write the name of the field without `$`",
                '“' | '”' | '‘' | '’' => "put strings in straight quotes: \"text\"",
                _ => "write a name with characters other than letters, digits and `_` as labels[\"a-b\"], or in backquotes",
            }));
        };
        let span = self.at..self.at + symbol.len();
        self.at = span.end;
        if *symbol == "=" {
            let help = if self.byte(0) == b'~' { "write `field.matches(\"pattern\")`" } else { "write `==`" };
            return Err(ExprError::new(span, "`=` is not an operator").help(help));
        }
        Ok(Token::Symbol(symbol))
    }

    fn digits(&mut self) {
        while self.byte(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Token, ExprError> {
        let start = self.at;
        if self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X') && self.byte(2).is_ascii_hexdigit() {
            self.at += 2;
            while self.byte(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            return self.integer(start, &self.source[start + 2..self.at], 16);
        }
        self.digits();
        let mut double = false;
        if self.byte(0) == b'.' && self.byte(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            self.digits();
        }
        let sign = usize::from(matches!(self.byte(1), b'+' | b'-'));
        if matches!(self.byte(0), b'e' | b'E') && self.byte(1 + sign).is_ascii_digit() {
            double = true;
            self.at += 1 + sign;
            self.digits();
        }
        let text = &self.source[start..self.at];
        if !double {
            return self.integer(start, text, 10);
        }
        self.number_ends(start)?;
        text.parse().map(Token::Double).map_err(|_| ExprError::new(start..self.at, "not a number"))
    }

    fn integer(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, ExprError> {
        let unsigned = matches!(self.byte(0), b'u' | b'U');
        let value = u64::from_str_radix(digits, radix).map_err(|_| {
            ExprError::new(start..self.at, "a number with more than 64 bits").help("write it as a double: 1e20")
        })?;
        self.at += usize::from(unsigned);
        self.number_ends(start)?;
        Ok(if unsigned { Token::Uint(value) } else { Token::Int(value) })
    }

    fn number_ends(&self, start: usize) -> Result<(), ExprError> {
        let length = self.word_length();
        if length == 0 {
            return Ok(());
        }
        let text = &self.source[start..self.at + length];
        let help = match &self.rest()[..length] {
            "s" | "m" | "h" | "ms" | "us" | "ns" => format!("for a duration, write duration(\"{text}\")"),
            _ => format!("for a string, write \"{text}\""),
        };
        Err(ExprError::new(start..self.at + length, format!("`{text}` is not a number and not a name")).help(help))
    }

    fn backquoted(&mut self) -> Result<Token, ExprError> {
        let start = self.at;
        let Some(length) = self.rest()[1..].find('`').filter(|length| *length > 0) else {
            return Err(
                ExprError::new(start..start + 1, "a name in backquotes is empty or not closed").help("write `name`")
            );
        };
        self.at += length + 2;
        Ok(Token::Quoted(self.source[start + 1..self.at - 1].to_owned()))
    }

    fn string(&mut self, raw: bool) -> Result<Token, ExprError> {
        let start = self.at;
        let quote = if self.byte(0) == b'"' { '"' } else { '\'' };
        let triple = self.byte(1) == self.byte(0) && self.byte(2) == self.byte(0);
        let close = if triple { &self.rest()[..3] } else { &self.rest()[..1] };
        self.at += close.len();
        let mut text = String::new();
        loop {
            if self.rest().starts_with(close) {
                self.at += close.len();
                return Ok(Token::String(text));
            }
            match self.rest().chars().next() {
                Some('\\') if !raw => text.push(self.escape()?),
                Some(c) if triple || !matches!(c, '\n' | '\r') => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
                _ => {
                    let help =
                        format!("write {close} at the end of the string; for a quote inside it, write \\{quote}");
                    return Err(ExprError::new(start..start + close.len(), "a string is not closed").help(help));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, ExprError> {
        let start = self.at;
        let (digits, radix) = match self.byte(1) {
            b'x' | b'X' => (2..4, 16),
            b'u' => (2..6, 16),
            b'U' => (2..10, 16),
            b'0'..=b'3' => (1..4, 8),
            _ => return self.plain_escape(),
        };
        let code = self.rest().get(digits.clone()).filter(|text| text.chars().all(|c| c.is_digit(radix)));
        let Some(character) = code.and_then(|code| u32::from_str_radix(code, radix).ok()).and_then(char::from_u32)
        else {
            return Err(ExprError::new(start..start + 2, "an escape that is not a valid character")
                .help("write \\xHH, \\uHHHH, \\UHHHHHHHH with hexadecimal digits, or three octal ones"));
        };
        self.at += digits.end;
        Ok(character)
    }

    fn plain_escape(&mut self) -> Result<char, ExprError> {
        let character = match self.byte(1) {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'a' => '\x07',
            b'b' => '\x08',
            b'f' => '\x0c',
            b'v' => '\x0b',
            byte @ (b'\\' | b'?' | b'"' | b'\'' | b'`') => char::from(byte),
            _ => {
                return Err(ExprError::new(self.at..self.at + 1, "an unknown escape in a string")
                    .help("write two backslashes, or write r before the string: r\"\\d+\""));
            }
        };
        self.at += 2;
        Ok(character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Token> {
        let mut all = tokens(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        assert_eq!(all.pop().map(|last| last.0), Some(Token::End));
        all.into_iter().map(|(token, _)| token).collect()
    }

    fn text(text: &str) -> Token {
        Token::String(text.to_owned())
    }

    #[test]
    fn numbers_read_as_the_language_spells_them() {
        assert_eq!(
            kinds("0 17 0xfF 3u 0x1FU"),
            [Token::Int(0), Token::Int(17), Token::Int(255), Token::Uint(3), Token::Uint(31)]
        );
        assert_eq!(kinds("1.5 .5 1e3 2E-2 1.0e+1"), [1.5, 0.5, 1000.0, 0.02, 10.0].map(Token::Double));
        assert_eq!(kinds("a.b"), [Token::Word("a".into()), Token::Symbol("."), Token::Word("b".into())]);
    }

    #[test]
    fn strings_read_as_the_language_spells_them() {
        assert_eq!(
            kinds(
                r#""a\"b" 'it''s' r"\d" """x"
y""" '''a'b'''"#
            ),
            [text("a\"b"), text("it"), text("s"), text("\\d"), text("x\"\ny"), text("a'b")]
        );
        assert_eq!(kinds(r#""\x41\u00e9\U0001d11e\101\a\?\`""#), [text("Aé𝄞A\x07?`")]);
        assert_eq!(kinds("`@timestamp` // rest\n1"), [Token::Quoted("@timestamp".into()), Token::Int(1)]);
        assert_eq!(kinds("\"\" ''"), [text(""), text("")]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (source, span, message, help) in [
            ("a = 1", 2..3, "not an operator", "`==`"),
            ("a & b", 2..3, "unexpected character", "`&&`"),
            ("a | b", 2..3, "unexpected character", "`||`"),
            ("10s", 0..3, "not a number and not a name", "duration(\"10s\")"),
            ("5xx", 0..3, "not a number and not a name", "\"5xx\""),
            ("\"a", 0..1, "not closed", "at the end of the string"),
            ("\"a\nb\"", 0..1, "not closed", "at the end of the string"),
            ("\"\\d\"", 1..2, "unknown escape", "r\"\\d+\""),
            ("\"\\ud800\"", 1..3, "not a valid character", "hexadecimal"),
            ("99999999999999999999", 0..20, "64 bits", "1e20"),
            ("@timestamp", 0..1, "unexpected character", "backquotes"),
            ("b\"x\"", 0..2, "byte strings", "without"),
            ("``", 0..1, "backquotes", "name"),
        ] {
            let error = tokens(source).expect_err(source);
            assert_eq!(error.span, span, "{source}");
            assert!(error.message.contains(message), "{source}: {error:?}");
            assert!(error.help.as_deref().unwrap_or("").contains(help), "{source}: {error:?}");
        }
    }
}
