//! Detects inputs that read what their own events become: rings of inputs and outputs, through one file or through several.
//!
//! Guarantees: each ring is told for one of its inputs, the first in the configuration. It is an error if the paths of all its outputs
//! are read whatever the fields of an event are, and otherwise a warning. Does not see which events a pipeline drops, and which
//! values fields have: a ring that only shows while events flow is broken by the inputs.

use super::Files;
use crate::config::node::Node;
use crate::config::plan::Plan;
use crate::config::problem::Problem;
use crate::inputs::InputConfig;
use crate::inputs::file::patterns::Patterns;
use crate::outputs::file::paths::resolved;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use tailwater_shards::env::Disk;

/// An input that reads files of outputs.
struct Reader<'a> {
    index: usize,
    name: &'a str,
    /// The outputs that get what it reads, and those whose files it reads.
    feeds: BTreeSet<usize>,
    reads: Vec<&'a Files<'a>>,
}

/// The steps of a ring after its input: each output, with the input that reads its files and feeds the next one.
type Way<'a> = Vec<(&'a Files<'a>, &'a Reader<'a>)>;

/// Reports rings. With `disk`, it may block.
pub fn check<D: Disk>(plan: &Plan, files: &[Files<'_>], root: &Node, disk: Option<&D>) -> Vec<Problem> {
    let readers: Vec<Reader<'_>> = plan
        .inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.used && !root.is_assumed(&["inputs", &input.name, "include"]))
        .filter_map(|(index, input)| {
            let InputConfig::File(settings) = &input.settings else { return None };
            let reading = Reading::of(settings, disk)?;
            let reads = files.iter().filter(|one| reading.reads(one)).collect();
            Some(Reader { index, name: &input.name, feeds: downstream(plan, index), reads })
        })
        .collect();
    let tell = |reader| readers_rings(reader, &readers).into_iter().map(|way| problem(&way, root)).collect::<Vec<_>>();
    readers.iter().flat_map(tell).collect()
}

/// The indices of the outputs that may receive the events of an input.
pub fn downstream(plan: &Plan, input: usize) -> BTreeSet<usize> {
    let pipelines = plan.pipelines.iter().filter(|pipeline| pipeline.inputs.contains(&input));
    pipelines.flat_map(|pipeline| pipeline.outputs.iter().copied()).collect()
}

/// A ring for each output whose files this input reads and which its events reach. Rings in which an earlier input is are that one's.
fn readers_rings<'a>(first: &'a Reader<'a>, readers: &'a [Reader<'a>]) -> Vec<Way<'a>> {
    let later: Vec<&Reader<'_>> = readers.iter().filter(|reader| reader.index >= first.index).collect();
    let certain = ways(first, &later, &|files| !files.template.has_fields());
    let possible = ways(first, &later, &|_| true);
    let of = |last: &&Files<'_>| certain.get(&last.index).or_else(|| possible.get(&last.index)).cloned();
    first.reads.iter().filter_map(of).collect()
}

/// The shortest ways from an input over its outputs to itself, by the last output. Visits each output once.
fn ways<'a>(
    first: &'a Reader<'a>,
    readers: &[&'a Reader<'a>],
    is_passed: &dyn Fn(&Files<'_>) -> bool,
) -> BTreeMap<usize, Way<'a>> {
    let mut rings = BTreeMap::new();
    let mut reached = first.feeds.clone();
    let mut left: VecDeque<(usize, Way<'a>)> = first.feeds.iter().map(|&output| (output, Way::new())).collect();
    while let Some((output, way)) = left.pop_front() {
        for &reader in readers {
            let files = reader.reads.iter().find(|files| files.index == output && is_passed(files));
            let Some(files) = files else { continue };
            let way: Way<'a> = way.iter().copied().chain([(*files, reader)]).collect();
            if reader.index == first.index {
                rings.insert(output, way);
                continue;
            }
            for &next in &reader.feeds {
                if reached.insert(next) {
                    left.push_back((next, way.clone()));
                }
            }
        }
    }
    rings
}

fn problem(way: &Way<'_>, root: &Node) -> Problem {
    let (last, reader) = way[way.len() - 1];
    let (input, output, shown) = (reader.name, &last.output.name, &last.shown);
    let span = root.span_at(&["inputs", input, "include"]);
    let is_certain = way.iter().all(|(files, _)| !files.template.has_fields());
    let steps: String = way[..way.len() - 1]
        .iter()
        .map(|(files, reader)| {
            format!(" through `{}` ({}) and the input `{}`", files.output.name, files.shown, reader.name)
        })
        .collect();
    let help = match steps.is_empty() {
        true => format!("let `{output}` write to another directory, or exclude its files with `exclude`"),
        false => format!(
            "let `{output}` write to another directory, or exclude the files of one of these outputs with `exclude`"
        ),
    };
    if is_certain {
        let what = format!(
            "the input `{input}` reads the output file of `{output}`, which its events go to{steps}: an endless loop"
        );
        return Problem::error(span, what).label(format!("matches {shown}")).help(help);
    }
    let what = format!("the input `{input}` may find files of the output `{output}`, which its events go to{steps}");
    let label = match steps.is_empty() {
        true => format!("matches {shown}; files that `{output}` writes are not read"),
        false => format!("matches {shown}; files that would close the ring are not read"),
    };
    Problem::warning(span, what).label(label).help(help)
}

/// What an input reads, as configured and with the symbolic links of its directories resolved.
struct Reading {
    given: Patterns,
    real: Option<Patterns>,
}

impl Reading {
    fn of<D: Disk>(settings: &crate::inputs::file::Settings, disk: Option<&D>) -> Option<Reading> {
        let here = disk.and_then(|disk| disk.canonical(Path::new(".")).ok()).unwrap_or_else(|| "/".into());
        let given = Patterns::new(&settings.include, &settings.exclude, &here).ok()?;
        let real = disk.and_then(|disk| {
            let include: Vec<String> = given.bases.iter().map(|(glob, base)| behind_links(glob, base, disk)).collect();
            Patterns::new(&include, &settings.exclude, &here).ok()
        });
        Some(Reading { given, real })
    }

    fn reads(&self, files: &Files<'_>) -> bool {
        let reads = |path: &Path| {
            let is_excluded = self.given.excludes.match_path(path) || self.given.excludes.match_path(&files.sample);
            !is_excluded
                && (self.given.wants_file(path) || self.real.as_ref().is_some_and(|real| real.wants_file(path)))
        };
        let rotated = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".1");
            PathBuf::from(name)
        };
        [&files.sample, &files.real].into_iter().any(|path| reads(path) || files.rotated > 0 && reads(&rotated(path)))
    }
}

/// A glob with the symbolic links of its leading directories resolved.
fn behind_links<D: Disk>(glob: &str, base: &Path, disk: &D) -> String {
    let Some(rest) = base.to_str().and_then(|base| glob.strip_prefix(base)) else { return glob.to_owned() };
    match resolved(base, disk) {
        Ok(real) => format!("{}{rest}", globset::escape(&real.to_string_lossy())),
        Err(_) => glob.to_owned(),
    }
}
