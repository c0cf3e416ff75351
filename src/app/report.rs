//! What a start tells of what it found: damage, ends of logs that were cut, inputs and outputs that left or have another name.
//!
//! Guarantees: each line says what was found, what it costs and what happens next. Changes nothing.

use crate::config::plan::GivenUp;
use std::fmt::Write as _;
use tailwater_shards::engine::{Cut, Engine, LeftInput, Renamed, Waiting};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::wal::Damage;

/// Tells all of it.
pub(super) fn report(engine: &Engine<GlommioEnv>) {
    damage(&engine.damage);
    engine.cut.iter().for_each(cut);
    for Waiting { output, events } in &engine.removed {
        if *events == 0 {
            tracing::info!(component_id = %output, "an output left the configuration; nothing waited for it");
            continue;
        }
        tracing::warn!(component_id = %output, events, "an output left the configuration: its waiting events are discarded, as you said");
    }
    for Renamed { was, name } in &engine.renamed {
        tracing::info!(component_id = %name, was = %was, "has another name now and goes on where it was");
    }
    for LeftInput { name, sources, forgotten } in &engine.left_inputs {
        if *forgotten {
            tracing::info!(component_id = %name, sources, "an input left the configuration; its positions are forgotten, as you said");
            continue;
        }
        tracing::info!(
            component_id = %name,
            sources,
            "an input left the configuration; its positions are kept for its return, or for one that says `was: {name}`; \
             --discard-removed {name} forgets them"
        );
    }
}

/// Tells which names on the command line are not among those that left.
pub(super) fn not_left(engine: &Engine<GlommioEnv>, given_up: &[GivenUp]) {
    let has_left = |name: &str| {
        engine.removed.iter().any(|waiting| waiting.output == name)
            || engine.left_inputs.iter().any(|input| input.name == name)
    };
    for GivenUp { name, .. } in given_up.iter().filter(|one| !one.dead_letters && !has_left(&one.name)) {
        tracing::warn!("--discard-removed {name}: {}", unknown_name(name));
    }
}

fn unknown_name(name: &str) -> String {
    format!("the log knows no input or output `{name}` that was removed; nothing was discarded for this name")
}

/// Tells of damage in the log.
pub(super) fn damage(all: &[Damage]) {
    all.iter().for_each(damaged);
}

/// Why a start is refused where events wait for outputs that left, and what can be done. `unused` are outputs that no pipeline names;
/// `given_up` are the names on the command line.
pub(super) fn waiting(all: &[Waiting], unused: &[String], given_up: &[GivenUp]) -> String {
    let mut text = String::new();
    for Waiting { output, events } in all {
        let noun = if *events == 1 { "event waits" } else { "events wait" };
        let (why, back) = match unused.contains(output) {
            true => (
                "which no pipeline names any more",
                format!("put it back: name `{output}` in the `outputs` of a pipeline"),
            ),
            false => (
                "which is not in the configuration any more",
                format!("put it back: `{output}` under `outputs`, in a pipeline"),
            ),
        };
        let _ = write!(
            text,
            "{events} {noun} in the log for the output `{output}`, {why}. Either\n  \
             - {back}; or\n  \
             - if it has another name now, say so there: `outputs: {{NEW: {{was: {output}, ...}}}}`; or\n  \
             - give up what waits: `--discard-removed {output}`, or `--discard-removed {output}=dead_letters` to have it in the dead \
             letter queue\n"
        );
    }
    if !given_up.is_empty() {
        let names: Vec<_> = given_up.iter().map(|one| format!("`{}`", one.name)).collect();
        let _ = writeln!(text, "`--discard-removed` names only {}", names.join(", "));
    }
    text + "nothing was changed, and nothing is started"
}

fn damaged(damage: &Damage) {
    let Damage { log, segment, offset, bytes, finding, .. } = damage;
    let (log, file) = (log.0, format!("wal/log-{:08}/{segment:016}.seg", log.0));
    // Commits and positions are frames too.
    let frames = damage.frames().map_or_else(|| "unknown".to_owned(), |frames| frames.to_string());
    if damage.known {
        tracing::warn!(
            log,
            segment,
            offset,
            bytes,
            "damage in the write-ahead log that an earlier start reported is still there until its segment is delivered"
        );
    } else if damage.is_whole_log() {
        tracing::error!(log, "{finding}; events in it that were not delivered are lost, the rest goes on");
    } else if *bytes == 0 {
        tracing::error!(
            log,
            segment,
            %file,
            frames,
            "a segment of the write-ahead log is gone: {finding}; events in it that were not delivered are lost, the rest goes on"
        );
    } else if let Some(reason) = &damage.uncopied {
        tracing::error!(
            log,
            segment,
            %file,
            offset,
            bytes,
            frames,
            "damage in the write-ahead log: {finding}; events in these bytes that were not delivered may be lost, the rest goes on. The \
             bytes could not be copied: {reason}. They stay in the file until its events are delivered, then it is written over: \
             copy it before, if you want to look at them"
        );
    } else {
        let copy = damage.quarantined.as_ref().map(|path| path.display().to_string());
        tracing::error!(
            log,
            segment,
            %file,
            offset,
            bytes,
            frames,
            quarantined = copy,
            "damage in the write-ahead log: {finding}; events in these bytes that were not delivered may be lost, the rest goes on"
        );
    }
}

fn cut(cut: &Cut) {
    let Cut { log, sequences, behind } = *cut;
    if behind == 0 {
        tracing::info!(
            log = log.0,
            sequences,
            "the last batch of the log was not appended to its end and is cut; what was not acknowledged is read or sent again"
        );
        return;
    }
    tracing::warn!(
        log = log.0,
        sequences,
        behind,
        "the end of the log was not whole where it was not known to be durable: it is cut there, with whole frames behind it; \
         what was acknowledged before a sync is lost with it, files are read again from there"
    );
}
