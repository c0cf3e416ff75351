//! Configuration: what the file says, and what will run.
//!
//! ```text
//! bytes ── node ──> tree with positions ── de, raw ──> what the file says ── plan ──> what will run
//!            env: variables       component: the table of types      problem: what is wrong, where
//!                                                                      files: checks the files that it names
//! ```
//!
//! Guarantees: nothing starts from a file with an error in it, and one run reports as many errors as can be known. Opens no other
//! file unless it is asked to check them.

pub mod admin;
pub mod claims;
pub mod component;
mod conflicts;
pub mod de;
pub mod dlq;
pub mod env;
pub mod facts;
pub mod files;
mod hidden;
pub mod links;
pub mod literal;
pub mod meetings;
pub mod migrating;
pub mod nearest;
pub mod node;
pub mod pipeline;
pub mod plan;
pub mod problem;
pub mod raw;
mod readable;
pub mod recover;
pub mod room;
mod shares;
mod summary;
pub mod sums;
pub mod timezone;
pub mod trial;
pub mod types;
pub mod unset;
mod variables;
mod was;

pub use plan::{Circumstances, Plan};
pub use problem::{Refused, Report};

use component::{Table, TrustedFile};
use hidden::Hidden;
use problem::{Problem, Severity, Span};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use tailwater_shards::env::{Disk, Env, Sequential, Stat};
use unset::Unset;

/// Size of the largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A plan and its warnings.
pub struct Loaded {
    /// What will run.
    pub plan: Plan,
    /// Warnings for the operator.
    pub warnings: Report,
    /// Where secrets are written in the file, by their places in the text of the report.
    pub literals: Vec<Span>,
    /// The files that it names and that decide who is trusted, or what is written into events.
    pub files: Vec<NamedFile>,
    /// What the file that was read is like: the one that was opened, whatever has its name now. None if there was none.
    pub stat: Option<Stat>,
    /// The variables that are not set, and what needs them. None unless they were allowed.
    pub unset: Vec<Unset>,
}

/// A file that a component reads.
pub struct NamedFile {
    /// The component, in words.
    pub whose: String,
    /// What it is, in words.
    pub what: String,
    /// The file.
    pub path: PathBuf,
    /// Whether it holds a secret.
    pub is_secret: bool,
    /// The place of its path in the text of the report.
    pub span: Span,
}

/// Reads a file and makes its plan, with variables from the environment of the process.
pub fn load_file<E: Env>(path: &Path, here: &Circumstances, disk: &E::Disk) -> Result<Loaded, Refused> {
    let (file, bytes, stat) = read_file(path, disk)?;
    let loaded = load::<E>(&file, bytes, &own_variable, here)?;
    Ok(Loaded { stat: Some(stat), ..loaded })
}

/// The same, but variables may be unset: [`Loaded::unset`] has those, and what of the plan needs them is not what will run.
pub fn load_file_in_part<E: Env>(path: &Path, here: &Circumstances, disk: &E::Disk) -> Result<Loaded, Refused> {
    let (file, bytes, stat) = read_file(path, disk)?;
    let variables = Variables { lookup: &own_variable, may_be_unset: true };
    let loaded = load_with::<E, E::Disk>(&file, bytes, variables, here, None)?;
    Ok(Loaded { stat: Some(stat), ..loaded })
}

/// The same as [`load_file`], and checks the files that it names, as a start does.
pub fn check_file<E: Env>(path: &Path, here: &Circumstances, disk: &impl Disk) -> Result<Loaded, Refused> {
    let (file, bytes, stat) = read_file(path, disk)?;
    let loaded = check::<E>(&file, bytes, &own_variable, here, disk)?;
    Ok(Loaded { stat: Some(stat), ..loaded })
}

/// Makes the plan from a file's bytes. `file` is the name that problems show.
pub fn load<E: Env>(
    file: &str,
    bytes: Vec<u8>,
    lookup: &dyn Fn(&str) -> Option<String>,
    here: &Circumstances,
) -> Result<Loaded, Refused> {
    load_with::<E, E::Disk>(file, bytes, Variables { lookup, may_be_unset: false }, here, None)
}

/// The same, and checks the files that it names, as a start does.
pub fn check<E: Env>(
    file: &str,
    bytes: Vec<u8>,
    lookup: &dyn Fn(&str) -> Option<String>,
    here: &Circumstances,
    disk: &impl Disk,
) -> Result<Loaded, Refused> {
    load_with::<E, _>(file, bytes, Variables { lookup, may_be_unset: false }, here, Some(disk))
}

/// Where the values of variables come from.
struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    may_be_unset: bool,
}

fn load_with<E: Env, D: Disk>(
    file: &str,
    bytes: Vec<u8>,
    variables: Variables<'_>,
    here: &Circumstances,
    disk: Option<&D>,
) -> Result<Loaded, Refused> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(refused(file.to_owned(), String::new(), too_large()));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))?;
    let node::Parsed { root, mut problems, mut values } = node::parse_file(&text, variables.lookup);
    let unset = if variables.may_be_unset { unset::taken(&mut problems) } else { Vec::new() };
    let before = problems.len();
    let plan = root.as_ref().and_then(|root| {
        let (plan, tree) = plan_of_tree::<E>(root, here, &mut problems)?;
        meetings::check::<E, D>(&plan, &tree, disk, &mut problems);
        conflicts::check::<E>(&plan, &tree, &mut problems);
        shares::check::<E>(&plan, &tree, &mut problems);
        doubts(&plan, &tree, &mut problems);
        if let Some(disk) = disk {
            files::check(&plan, &tree, root, disk, &mut problems);
            links::check(&plan, &tree, disk, &mut problems);
            readable::check(&plan, &tree, disk, &mut problems);
        }
        Some((plan, tree))
    });
    // What is wrong with a text that is not known follows from that.
    let mut unresolved = HashSet::new();
    root.iter().for_each(|root| root.unresolved(&mut unresolved));
    let later = problems.split_off(before);
    problems.extend(later.into_iter().filter(|problem| problem.span.is_none_or(|span| !unresolved.contains(&span))));
    if plan.is_none() && problems.is_empty() {
        problems.push(
            Problem::whole("the file is empty")
                .help("docs/configuration.md begins with a small configuration that works"),
        );
    }
    keep_causes(&mut problems);
    if let (None, Some(whose), Some(first)) = (&plan, migrating::other_format(&text), problems.first_mut()) {
        first.help = Some(format!(
            "this looks like a configuration of {whose}; docs/configuration.md begins with a small one for Tailwater, in YAML"
        ));
    }
    let plan = plan.map(|(mut plan, tree)| {
        if problems.iter().all(|problem| problem.severity == Severity::Warning) {
            plan.sums = sums::sums::<E>(&plan);
        }
        (plan, tree)
    });
    let places = unset::places(root.as_ref(), &unset);
    let known = problems.len();
    problems.extend(unset);
    values.sort_by_key(|variable| std::cmp::Reverse(variable.value.len()));
    problems.iter_mut().for_each(|problem| problem.hide(&values));
    let hidden = Hidden::of(&text, root.as_ref());
    let mut report = Report { file: file.to_owned(), text, problems };
    hidden.apply(&mut report);
    let unset = unset::named(places, report.problems.split_off(known));
    match plan {
        Some((plan, tree)) if !report.has_errors() => {
            let files = named_files(&plan, |path| hidden.moved(tree.span_at(path)));
            Ok(Loaded { plan, warnings: report, literals: hidden.literals(), files, stat: None, unset })
        }
        _ => Err(Refused { report }),
    }
}

/// A problem at the same position as an earlier one usually follows from it: the first one is the cause.
fn keep_causes(problems: &mut Vec<Problem>) {
    let (mut places, mut told) = (HashSet::new(), HashSet::new());
    problems.retain(|problem| {
        let Some(span) = problem.span.filter(|span| span.start != span.end) else { return true };
        let is_first = places.insert(span);
        told.insert((span, problem.what.clone())) && (is_first || problem.independent)
    });
}

/// What outputs do that is allowed and exposes secrets.
fn doubts(plan: &Plan, tree: &node::Node, problems: &mut Vec<Problem>) {
    for output in plan.outputs.iter().filter(|output| output.used) {
        let doubts = output.settings.doubts().into_iter().map(|doubt| doubt.problem(tree, &["outputs", &output.name]));
        problems.extend(doubts.map(|problem| Problem { severity: Severity::Warning, ..problem }));
    }
}

fn named_files(plan: &Plan, place: impl Fn(&[&str]) -> Span) -> Vec<NamedFile> {
    let mut files = Vec::new();
    for output in plan.outputs.iter().filter(|output| output.used) {
        for TrustedFile { key, path, is_secret } in output.settings.trusted_files() {
            let keys: Vec<&str> = ["outputs", &output.name].into_iter().chain(key.split('.')).collect();
            let (whose, what) =
                (format!("output `{}`", output.name), if is_secret { "private key" } else { "certificate" });
            files.push(NamedFile { whose, what: what.to_owned(), path, is_secret, span: place(&keys) });
        }
    }
    for pipeline in &plan.pipelines {
        for (number, step) in pipeline.chain.steps.iter().enumerate() {
            let span = place(&["pipelines", &pipeline.name, "transforms", &number.to_string()]);
            files.extend(step.kept().iter().map(|kept| NamedFile {
                whose: format!("pipeline `{}`", pipeline.name),
                what: "table of `enrich`".to_owned(),
                path: kept.path().to_owned(),
                is_secret: false,
                span,
            }));
        }
    }
    files
}

/// The plan, and the tree that it was read from.
fn plan_of_tree<E: Env>(
    root: &node::Node,
    here: &Circumstances,
    problems: &mut Vec<Problem>,
) -> Option<(Plan, node::Node)> {
    match &root.value {
        node::Value::Map(_) => {
            let (raw, tree) = raw::read_file(root, problems);
            let plan = plan::plan::<E>(raw, &tree, root, here, problems);
            Some((plan, tree))
        }
        node::Value::Scalar(scalar) if scalar.plain && scalar.text.is_empty() => None,
        _ => {
            let problem = Problem::error(root.span, "expected a map of keys such as `inputs:`");
            problems.push(problem.label(format!("this is {}", node::kind_of(root))));
            None
        }
    }
}

fn own_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn refused(file: String, text: String, problem: Problem) -> Refused {
    let mut report = Report { file, text, problems: vec![problem] };
    Hidden::of(&report.text, None).apply(&mut report);
    Refused { report }
}

fn not_utf8(file: &str, error: &FromUtf8Error) -> Refused {
    let start = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let span = Span { start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
    let problem =
        Problem::error(span, "the file is not UTF-8").label("the first invalid byte").help("save the file as UTF-8");
    refused(file.to_owned(), text, problem)
}

fn too_large() -> Problem {
    Problem::whole(format!("the file is larger than {FILE_BYTES_MAX} bytes"))
        .help("check that this is the right file; a configuration is far smaller")
}

/// The name that problems show, the contents of the file, and what it is like.
fn read_file<D: Disk>(path: &Path, disk: &D) -> Result<(String, Vec<u8>, Stat), Refused> {
    let file = path.display().to_string();
    match read_bytes(path, disk) {
        Ok((bytes, stat)) => Ok((file, bytes, stat)),
        Err(problem) => Err(refused(file, String::new(), problem)),
    }
}

fn read_bytes<D: Disk>(path: &Path, disk: &D) -> Result<(Vec<u8>, Stat), Problem> {
    let failed = |error: std::io::Error| {
        Problem::whole(format!("cannot be read: {error}")).help(match error.kind() {
            std::io::ErrorKind::NotFound => "check the path given with `-c`",
            std::io::ErrorKind::PermissionDenied => "give the user that runs Tailwater read permission",
            _ => "name a regular file; to use the output of a program, write it to a file first",
        })
    };
    let (file, stat) = disk.open_regular(path).map_err(failed)?;
    let mut bytes = Vec::new();
    Sequential::new(&file, 0).take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, stat))
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> schemars::Schema {
    let mut schema = schema_of_values().to_value();
    variables::accept(&mut schema);
    schema.try_into().unwrap_or_default()
}

/// The same schema once variables are replaced with their values.
pub fn schema_of_values() -> schemars::Schema {
    let mut schema = schemars::SchemaGenerator::default().into_root_schema_for::<raw::Raw>().to_value();
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    take_single_texts(&mut schema, &definitions);
    schema.try_into().unwrap_or_default()
}

/// Allows a single string in the schema wherever a list of strings is allowed: see [`de`].
fn take_single_texts(schema: &mut serde_json::Value, definitions: &serde_json::Value) {
    use serde_json::{Value, json};
    match schema {
        Value::Object(map) => {
            if map.get("type") == Some(&json!("array"))
                && map.get("items").is_some_and(|items| is_text(items, definitions))
            {
                map.insert("type".to_owned(), json!(["array", "string"]));
            }
            map.values_mut().for_each(|inner| take_single_texts(inner, definitions));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| take_single_texts(inner, definitions)),
        _ => {}
    }
}

fn is_text(schema: &serde_json::Value, definitions: &serde_json::Value) -> bool {
    let text = |kind: &serde_json::Value| {
        kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&"string".into()))
    };
    let name = schema.get("$ref").and_then(|name| name.as_str()).and_then(|name| name.strip_prefix("#/$defs/"));
    let choices = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
    name.and_then(|name| definitions.get(name)).is_some_and(|target| is_text(target, definitions))
        || schema.get("type").is_some_and(text)
        || choices.into_iter().any(|choice| is_text(choice, definitions))
}
