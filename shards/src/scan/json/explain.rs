//! Explains to people why an event is not one JSON object.
//!
//! Guarantees: finds an error in exactly those events that the parser rejects, and reports the location of the first one. Not
//! optimized: it works byte by byte, so that it serves as a second opinion on the parser. Runs only for rejected events.

use super::{FIELDS_MAX, NESTING_MAX};
use std::fmt;

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is empty or contains only white space.
    Empty,
    /// It does not begin with an object.
    NoObject,
    /// It does not begin with a value, where any value is allowed.
    NoValue,
    /// It ends inside an object or an array.
    Unfinished,
    /// A string has no closing quote.
    OpenString,
    /// A string contains a control byte that is not escaped.
    ControlByte,
    /// A backslash is not followed by a valid escape.
    Escape,
    /// Bytes that are not UTF-8.
    Utf8,
    /// A key is not a string.
    Key,
    /// There is no colon after a key.
    Colon,
    /// A required value is missing.
    Value,
    /// A number does not follow the grammar of numbers.
    Number,
    /// There is neither a comma nor a closing bracket after a value.
    Comma,
    /// Objects and arrays are nested too deep.
    Depth,
    /// There are too many fields.
    Fields,
    /// Something follows the object.
    Trailing,
    /// Something follows the value, where any value is allowed.
    TrailingValue,
    /// There is a newline inside.
    Newline,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Reason::Empty => "it is empty",
            Reason::NoObject => "it is not an object",
            Reason::NoValue => "it is not a JSON value",
            Reason::Unfinished => "it ends before its last bracket is closed",
            Reason::OpenString => "a string is not closed",
            Reason::ControlByte => "a string contains a control byte that is not escaped",
            Reason::Escape => "a backslash is not followed by a valid escape",
            Reason::Utf8 => "it is not UTF-8",
            Reason::Key => "a key in quotes is missing",
            Reason::Colon => "a colon is missing after a key",
            Reason::Value => "a value is missing",
            Reason::Number => "a number does not follow the JSON grammar",
            Reason::Comma => "a comma or a closing bracket is missing after a value",
            Reason::Depth => "objects and arrays are nested too deep",
            Reason::Fields => "it has too many fields",
            Reason::Trailing => "something follows the object",
            Reason::TrailingValue => "something follows the value",
            Reason::Newline => "it contains a newline",
        })
    }
}

/// What is wrong with an event, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub reason: Reason,
    /// The byte of the event where it is, counted from zero. The event's length if something is missing at the end.
    pub at: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (at byte {})", self.reason, self.at)
    }
}

/// What is wrong with an event. None if it is one JSON object.
pub fn explain(line: &[u8]) -> Option<Fault> {
    explained(line, Reader::event)
}

/// What is wrong with a text that may be any value. None if it is one. Other values may be nested as deep as values in an
/// object.
pub fn explain_value(text: &[u8]) -> Option<Fault> {
    explained(text, Reader::any)
}

fn explained<'a>(line: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Found) -> Option<Fault> {
    if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
        return Some(Fault { reason: Reason::Newline, at });
    }
    let mut reader = Reader { line, at: 0, fields: 0 };
    let found = read(&mut reader).err();
    match std::str::from_utf8(line) {
        // The first error is the cause of later ones.
        Err(error) if found.is_none_or(|fault| error.valid_up_to() <= fault.at) => {
            Some(Fault { reason: Reason::Utf8, at: error.valid_up_to() })
        }
        _ => found,
    }
}

struct Reader<'a> {
    line: &'a [u8],
    at: usize,
    /// Fields of the outermost object.
    fields: usize,
}

type Found = Result<(), Fault>;

impl Reader<'_> {
    fn fault(&self, reason: Reason) -> Found {
        Err(Fault { reason, at: self.at })
    }

    /// The next byte that is not white space, without consuming it.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r') = self.line.get(self.at) {
            self.at += 1;
        }
        self.line.get(self.at).copied()
    }

    fn event(&mut self) -> Found {
        match self.peek() {
            None => return self.fault(Reason::Empty),
            Some(b'{') => self.container(1)?,
            Some(_) => return self.fault(Reason::NoObject),
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault(Reason::Trailing),
        }
    }

    fn any(&mut self) -> Found {
        match self.peek() {
            None => return self.fault(Reason::Empty),
            Some(b'{') => return self.event(),
            Some(b'[' | b'"' | b'-' | b'0'..=b'9') => self.value(1)?,
            Some(_) => {
                let at = self.at;
                self.value(1).map_err(|_| Fault { reason: Reason::NoValue, at })?;
            }
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault(Reason::TrailingValue),
        }
    }

    /// An object or an array at level `depth`, whose bracket is next. Recursion is as deep as the nesting, which is limited.
    fn container(&mut self, depth: u32) -> Found {
        if depth > NESTING_MAX {
            return self.fault(Reason::Depth);
        }
        let object = self.line[self.at] == b'{';
        let close = if object { b'}' } else { b']' };
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            if object {
                self.key()?;
                self.fields += usize::from(depth == 1);
                if self.fields > FIELDS_MAX {
                    return self.fault(Reason::Fields);
                }
            }
            self.value(depth)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => return self.fault(Reason::Comma),
                None => return self.fault(Reason::Unfinished),
            }
        }
    }

    fn key(&mut self) -> Found {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(_) => return self.fault(Reason::Key),
            None => return self.fault(Reason::Unfinished),
        }
        match self.peek() {
            Some(b':') => self.at += 1,
            Some(_) => return self.fault(Reason::Colon),
            None => return self.fault(Reason::Unfinished),
        }
        Ok(())
    }

    fn value(&mut self, depth: u32) -> Found {
        match self.peek() {
            Some(b'{' | b'[') => self.container(depth + 1),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => {
                let rest = &self.line[self.at..];
                match ["true", "false", "null"].iter().find(|word| rest.starts_with(word.as_bytes())) {
                    Some(word) => self.at += word.len(),
                    None => return self.fault(Reason::Value),
                }
                Ok(())
            }
            None => self.fault(Reason::Unfinished),
        }
    }

    fn digits(&mut self) -> Found {
        let count = self.line[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.fault(Reason::Number) } else { Ok(()) }
    }

    fn number(&mut self) -> Found {
        self.at += usize::from(self.line[self.at] == b'-');
        match self.line.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if let Some(b'0'..=b'9') = self.line.get(self.at) {
            return self.fault(Reason::Number);
        }
        if let Some(b'.') = self.line.get(self.at) {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.line.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.line.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Found {
        let open = self.at;
        self.at += 1;
        while let Some(&byte) = self.line.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape(open)?,
                0..0x20 => return self.fault(Reason::ControlByte),
                _ => self.at += 1,
            }
        }
        Err(Fault { reason: Reason::OpenString, at: open })
    }

    fn escape(&mut self, open: usize) -> Found {
        match self.line.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.line.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.fault(Reason::Escape);
                }
                self.at += 6;
            }
            Some(_) => return self.fault(Reason::Escape),
            None => return Err(Fault { reason: Reason::OpenString, at: open }),
        }
        Ok(())
    }
}
