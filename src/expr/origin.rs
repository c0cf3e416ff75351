//! What is known about where an event came from: `origin().file`. No event can set it, whatever its fields are.

use super::ast::{Expr, Kind};
use super::error::ExprError;

/// A part of the origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// When it was read, RFC 3339 in UTC.
    Timestamp,
    /// The name of the host.
    Host,
    /// The path of its file.
    File,
    /// Its position in its file.
    Offset,
    /// The name of the input.
    Input,
}

/// How it is written.
pub const FUNCTION: &str = "origin";

impl Origin {
    /// All parts.
    pub const ALL: [Origin; 5] = [Origin::Timestamp, Origin::Host, Origin::File, Origin::Offset, Origin::Input];

    /// The name behind the dot.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Timestamp => "timestamp",
            Origin::Host => "host",
            Origin::File => "file",
            Origin::Offset => "offset",
            Origin::Input => "input",
        }
    }

    /// The part with this name, or what to write.
    pub fn named(name: &str) -> Result<Origin, String> {
        Origin::ALL.into_iter().find(|part| part.name() == name).ok_or_else(help)
    }
}

/// The parts that can be written.
pub(super) fn help() -> String {
    let names: Vec<String> = Origin::ALL.iter().map(|part| format!("`origin().{}`", part.name())).collect();
    format!("write one of {}", names.join(", "))
}

/// The part that `of.name` refers to, if `of` is `origin()`.
pub(super) fn part(of: &Expr, name: &str, whole: &Expr) -> Option<Result<Origin, ExprError>> {
    match &of.kind {
        Kind::Call(call) if call.name == FUNCTION && call.receiver.is_none() && call.arguments.is_empty() => {
            let unknown = |help| ExprError::new(whole.span.clone(), format!("`origin()` has no `{name}`")).help(help);
            Some(Origin::named(name).map_err(unknown))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{EvalError, FieldValue, Fields, PathIndex, Program};

    /// An event of a file whose input has no name.
    struct Known;

    impl Fields for Known {
        fn get(&self, _: PathIndex) -> Option<FieldValue<'_>> {
            Some(FieldValue::Json(br#"{"file":"forged"}"#))
        }

        fn origin(&self, part: Origin) -> Option<FieldValue<'_>> {
            Some(FieldValue::Json(match part {
                Origin::Timestamp => b"\"2026-11-23T10:20:30.123456Z\"",
                Origin::Host => b"\"web-03\"",
                Origin::File => b"\"/var/log/a.log\"",
                Origin::Offset => b"17",
                Origin::Input => return None,
            }))
        }
    }

    #[test]
    fn parts_are_values_that_no_field_hides() {
        for holds in [
            "origin().file.startsWith(\"/var/log/\")",
            "origin().offset == 17 && origin().offset + 1 > 17",
            "has(origin().file) && !has(origin().input)",
            "origin().file != origin.file",
            "timestamp(origin().timestamp).getFullYear() == 2026",
            "origin().host in [\"web-02\", \"web-03\"]",
            "[1].exists(origin, origin().offset == 17)",
        ] {
            let program = Program::compile(holds).unwrap_or_else(|error| panic!("{holds}: {error:?}"));
            assert_eq!(program.test(&Known, &mut program.scratch()), Ok(true), "{holds}");
        }
        let program = Program::compile("origin().input == \"a\"").expect("a condition");
        assert_eq!(program.test(&Known, &mut program.scratch()), Err(EvalError::NoSuchKey));
        assert_eq!(program.explain_on(EvalError::NoSuchKey, &Known), "the input does not know `origin().input`");
        assert_eq!(program.origins(), [Origin::Input]);
    }

    #[test]
    fn what_has_no_such_part_is_told_the_parts() {
        for (wrong, told) in [
            ("origin() == 1", "needs the name of a part"),
            ("origin(1).file == \"a\"", "takes no arguments"),
            ("origin()[\"file\"] == \"a\"", "needs the name of a part"),
            ("origin().path == \"a\"", "has no `path`"),
            ("has(origin().path)", "has no `path`"),
            ("origin().file.name == \"a\"", "has no fields"),
            ("origim().file == \"a\"", "unknown function"),
        ] {
            let error = Program::compile(wrong).expect_err(wrong);
            assert!(error.message.contains(told), "{wrong}: {error:?}");
        }
        let help = Program::compile("origin().path == \"a\"").expect_err("unknown").help;
        assert!(help.is_some_and(|help| help.contains("`origin().file`")));
    }
}
