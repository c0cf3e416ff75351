//! Detects what several components share: inputs that read one stream, outputs with the same file, inputs that read what outputs
//! write, and paths that become equal because a field is missing.
//!
//! Guarantees: two inputs on one stream are an error. Two outputs that write to one file, or an input that reads what its own events
//! become, are errors if every event does it, and warnings if it depends on the fields of an event. With a disk, paths are compared after
//! symbolic links are resolved; without one, only the configured paths are compared. Conflicts that only show while events flow
//! are detected by outputs and inputs.

mod rings;

use super::claims::unrotated;
use super::node::Node;
use super::plan::{OutputPlan, Plan};
use super::problem::Problem;
use super::types::{FieldName, FieldNames};
use crate::codec::marked;
use crate::outputs::OutputConfig;
use crate::outputs::file::paths::{linked_directory, open_to_others, resolved};
use crate::outputs::file::template::PathTemplate;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::{Disk, Env, Timestamp};
use tailwater_shards::plugin::Event;

/// The files of an output.
struct Files<'a> {
    output: &'a OutputPlan,
    index: usize,
    template: PathTemplate,
    rotated: u32,
    /// The path for an event without fields, as configured and with symbolic links resolved.
    sample: PathBuf,
    real: PathBuf,
    /// The path as it is shown: with the names of variables.
    shown: String,
}

impl Files<'_> {
    fn is_constant(&self) -> bool {
        self.template.constant().is_some()
    }
}

/// Checks the files of all outputs that run. With `disk`, it may block.
pub fn check<E: Env, D: Disk>(plan: &Plan, root: &Node, disk: Option<&D>, problems: &mut Vec<Problem>) {
    problems.extend(rivals::<E>(plan, root));
    let files: Vec<Files<'_>> =
        plan.outputs.iter().enumerate().filter_map(|(at, one)| files_of(at, one, root, disk)).collect();
    for (number, later) in files.iter().enumerate() {
        for earlier in &files[..number] {
            problems.extend(meeting(earlier, later, root));
        }
    }
    let used = (0..plan.outputs.len()).filter(|&output| plan.outputs[output].used);
    problems.extend(used.filter_map(|output| unnamed::<E>(plan, output, root)));
    for one in &files {
        problems.extend(disk.and_then(|disk| unwritable(one, disk, root)));
        problems.extend(disk.and_then(|disk| exposed(one, disk, root)));
        problems.extend(disk.and_then(|disk| linked(one, disk, root)));
    }
    problems.extend(rings::check(plan, &files, root, disk));
}

/// Reports inputs that read the same stream, so that each would get only a part of it.
fn rivals<E: Env>(plan: &Plan, root: &Node) -> Vec<Problem> {
    let mut readers: Vec<(&'static str, &str)> = Vec::new();
    let mut problems = Vec::new();
    for input in plan.inputs.iter().filter(|input| input.used) {
        let Some(what) = input.settings.exclusive::<E>() else { continue };
        match readers.iter().find(|(of, _)| *of == what) {
            None => readers.push((what, &input.name)),
            Some((_, first)) => {
                let name = &input.name;
                let message = format!("the inputs `{first}` and `{name}` both read {what}");
                problems.push(
                    Problem::error(root.span_at(&["inputs", name]), message)
                        .label("each would get parts of lines")
                        .help(format!("remove `{name}`, and name `{first}` in each pipeline that needs its events")),
                );
            }
        }
    }
    problems
}

/// The names of the outputs that may receive the events of an input.
pub fn downstream_names(plan: &Plan, input: usize) -> Arc<BTreeSet<Arc<str>>> {
    Arc::new(
        rings::downstream(plan, input).into_iter().map(|output| plan.outputs[output].name.as_str().into()).collect(),
    )
}

fn files_of<'a, D: Disk>(index: usize, output: &'a OutputPlan, root: &Node, disk: Option<&D>) -> Option<Files<'a>> {
    let OutputConfig::File(settings) = &output.settings else { return None };
    let is_written = !root.is_assumed(&["outputs", &output.name, "path"]);
    let template = settings.template().ok().filter(|_| output.used && is_written)?;
    let mut sample = Vec::new();
    template.render(&Event { line: b"{}", timestamp: Timestamp(0) }, &mut sample);
    let sample = PathBuf::from(OsStr::from_bytes(&sample));
    let real = disk.and_then(|disk| resolved(&sample, disk).ok()).unwrap_or_else(|| sample.clone());
    let rotated = settings.rotate.map_or(0, |rotate| rotate.keep);
    let shown = match marked::has_values(&settings.path) {
        true => marked::shown(&settings.path).into_owned(),
        false => sample.display().to_string(),
    };
    Some(Files { output, index, template, rotated, sample, real, shown })
}

/// Two outputs that write to one file.
fn meeting(earlier: &Files<'_>, later: &Files<'_>, root: &Node) -> Option<Problem> {
    let (one, other) = (&earlier.output.name, &later.output.name);
    let span = root.span_at(&["outputs", other, "path"]);
    let shown = &later.shown;
    let help = "give each output its own path, or let one output write the events of both";
    let is_rotated_of = |a: &Files<'_>, b: &Files<'_>| {
        let number = b.real.extension().and_then(|ending| ending.to_str()?.parse::<u32>().ok());
        let is_kept = number.is_some_and(|number| (1..=a.rotated).contains(&number));
        is_kept && a.is_constant() && unrotated(&b.real).as_deref() == Some(&a.real)
    };
    if earlier.template.is_like(&later.template) && earlier.real == later.real {
        let what = format!("the outputs `{one}` and `{other}` write to the same file");
        let label = if earlier.sample == later.sample {
            "the same path".to_owned()
        } else {
            format!("leads to the file that `{one}` writes as {}", earlier.shown)
        };
        return Some(Problem::error(span, what).label(label).help(help));
    }
    if is_rotated_of(earlier, later) || is_rotated_of(later, earlier) {
        let what = format!("the outputs `{one}` and `{other}` conflict: {shown} is a name that a rotated file gets");
        return Some(Problem::error(span, what).label("`rotate` renames and removes it").help(help));
    }
    let may_meet = |a: &Files<'_>, b: &Files<'_>| b.is_constant() && a.template.may_be(b.sample.as_os_str().as_bytes());
    // Two missing fields have the same value.
    let meet_unnamed = earlier.real == later.real;
    if !meet_unnamed && !may_meet(earlier, later) && !may_meet(later, earlier) {
        return None;
    }
    let what = format!("the outputs `{one}` and `{other}` may write to the same file");
    Some(
        Problem::warning(span, what)
            .label("if events of both have the same path, the outputs take turns writing the file")
            .help("give the outputs paths that cannot be equal, for example separate directories"),
    )
}

/// Warns about fields in names of files and indexes that an event may not have.
fn unnamed<E: Env>(plan: &Plan, output: usize, root: &Node) -> Option<Problem> {
    let feeds = plan.pipelines.iter().filter(|pipeline| pipeline.outputs.contains(&output));
    let inputs: BTreeSet<usize> = feeds.flat_map(|pipeline| pipeline.inputs.iter().copied()).collect();
    let adds = |name: &[u8]| {
        let mut names = inputs.iter().map(|&input| plan.inputs[input].settings.fields::<E>());
        std::str::from_utf8(name).is_ok_and(|name| names.all(|fields| is_added(fields, name)))
    };
    let OutputPlan { name: output, settings, .. } = &plan.outputs[output];
    let (key, place, name) = match settings {
        OutputConfig::File(settings) => ("path", "file", settings.template().ok()?.without_default(adds)?.to_vec()),
        OutputConfig::Elasticsearch(settings) => {
            ("index", "index", settings.template().ok()?.without_default(adds)?.to_vec())
        }
        _ => return None,
    };
    let name = String::from_utf8_lossy(&name);
    let span = root.span_at(&["outputs", output, key]);
    Some(
        Problem::warning(span, format!("events without the field `{name}` go to the {place} for the value `unknown`"))
            .label(format!("`{name}` has no default"))
            .help(format!(
                "set a default: `{{{{ {name} | default('none') }}}}`; tailwater_output_unnamed_events_total counts them"
            )),
    )
}

/// Warns about a file or directory that this user cannot write to. Only a warning, since another user may run Tailwater, and
/// permissions can change later.
fn unwritable<D: Disk>(files: &Files<'_>, disk: &D, root: &Node) -> Option<Problem> {
    let fixed = files.template.fixed_directory();
    let file = files.is_constant().then_some(files.real.as_path()).filter(|path| disk.stat(path).is_ok());
    let directory = Path::new(OsStr::from_bytes(&fixed)).ancestors().find(|above| disk.stat(above).is_ok());
    let (path, error) =
        file.into_iter().chain(directory).find_map(|path| Some((path, disk.check_writable(path).err()?)))?;
    let shown = if files.shown.contains("${") { files.shown.clone() } else { path.display().to_string() };
    let span = root.span_at(&["outputs", &files.output.name, "path"]);
    if let Some(missing) = missing_below(path, &files.template.fixed_path()).filter(|_| !files.shown.contains("${")) {
        let what = format!("{} does not exist, and this user cannot create it: {error}", missing.display());
        return Some(Problem::warning(span, what).label("events wait in the write-ahead log until it is there").help(format!(
            "create it as root, for the user that runs Tailwater: `install -d -o USER -g GROUP -m 750 {}`; or choose another `path`; \
             run `validate` as that user",
            missing.display()
        )));
    }
    let what = match Some(path) == file {
        true => format!("{shown} cannot be written: {error}"),
        false => format!("no file can be created in {shown}: {error}"),
    };
    Some(Problem::warning(span, what).label("events wait in the write-ahead log until this works").help(
        "give the user that runs Tailwater write permission there (`chown`, `setfacl`), or choose another `path`; run \
         `validate` as that user",
    ))
}

/// The first directory below `existing` on the way to `wanted`. None if that is not below it.
fn missing_below(existing: &Path, wanted: &Path) -> Option<PathBuf> {
    Some(existing.join(wanted.strip_prefix(existing).ok()?.components().next()?))
}

/// Warns about a directory that others may write to: they can replace what the output writes, and block it.
fn exposed<D: Disk>(files: &Files<'_>, disk: &D, root: &Node) -> Option<Problem> {
    let (directory, what) = open_to_others(&files.template, disk)?;
    let shown = if files.shown.contains("${") { files.shown.clone() } else { directory.display().to_string() };
    let span = root.span_at(&["outputs", &files.output.name, "path"]);
    Some(
        Problem::warning(span, format!("{shown} {what}"))
            .label("who can write there can move, replace and block the files of this output")
            .help(
                "use a directory that belongs to root or to the user that runs Tailwater, with the mode 0750 or 0755; if the owner is \
                 that user, run `validate` as that user",
            )
            .independent(),
    )
}

/// Warns about a link below the fixed directory.
fn linked<D: Disk>(files: &Files<'_>, disk: &D, root: &Node) -> Option<Problem> {
    let link = linked_directory(&files.template, disk)?;
    let fixed = files.template.fixed_path();
    let is_secret = files.shown.contains("${");
    let shown = if is_secret { files.shown.clone() } else { link.display().to_string() };
    let up_to = if is_secret { "its first date or field".to_owned() } else { fixed.display().to_string() };
    let span = root.span_at(&["outputs", &files.output.name, "path"]);
    Some(
        Problem::warning(span, format!("{shown} is a symbolic link, which this output does not follow"))
            .label(format!("links are followed only up to {up_to}"))
            .help("mount the target there (`mount --bind`), or name it in `path`")
            .independent(),
    )
}

/// Whether an input adds a field of this name to each event.
fn is_added(fields: &FieldNames, name: &str) -> bool {
    [&fields.timestamp, &fields.host].into_iter().any(|field| matches!(field, FieldName::Named(named) if named == name))
}
