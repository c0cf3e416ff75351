//! Logs what a start found: damage, truncated WAL tails, and inputs and outputs that were removed or renamed.
//!
//! Guarantees: each line says what was found, what it costs and what happens next. Changes nothing.

use crate::config::plan::GivenUp;
use std::fmt::Write as _;
use tailwater_shards::engine::{Cut, Engine, LeftInput, Renamed, Waiting};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::wal::Damage;

/// Logs everything that the start found.
pub(super) fn report(engine: &Engine<GlommioEnv>) {
    damage(&engine.damage);
    engine.cut.iter().for_each(cut);
    for Waiting { output, events } in &engine.removed {
        if *events == 0 {
            tracing::info!(component_id = %output, "an output was removed from the configuration; no events waited for it");
            continue;
        }
        tracing::warn!(
            component_id = %output,
            events,
            "an output was removed from the configuration: its waiting events are discarded, as requested"
        );
    }
    for Renamed { was, name } in &engine.renamed {
        tracing::info!(component_id = %name, was = %was, "`{was}` was renamed to `{name}`, which continues where `{was}` stopped");
    }
    for LeftInput { name, sources, forgotten } in &engine.left_inputs {
        if *forgotten {
            tracing::info!(
                component_id = %name,
                sources,
                "an input was removed from the configuration; its positions are deleted, as requested"
            );
            continue;
        }
        tracing::info!(
            component_id = %name,
            sources,
            "an input was removed from the configuration; its positions are kept in case it returns or another one says `was: \
             {name}`; --discard-removed {name} deletes them"
        );
    }
}

/// Warns about names on the command line that are not removed inputs or outputs.
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
    format!("the write-ahead log has no removed input or output `{name}`; nothing was discarded for this name")
}

/// Logs damage in the WAL.
pub(super) fn damage(all: &[Damage]) {
    all.iter().for_each(damaged);
}

/// Why a start is refused while events wait for removed outputs, and how to continue. `unused` are outputs that no pipeline
/// names, `given_up` the names on the command line.
pub(super) fn waiting(all: &[Waiting], unused: &[String], given_up: &[GivenUp]) -> String {
    let mut text = String::new();
    for Waiting { output, events } in all {
        let noun = if *events == 1 { "event waits" } else { "events wait" };
        let (why, back) = match unused.contains(output) {
            true => (
                "which is no longer in any pipeline",
                format!("add it back: name `{output}` in the `outputs` of a pipeline"),
            ),
            false => (
                "which is no longer in the configuration",
                format!("add it back: `{output}` under `outputs`, and in a pipeline"),
            ),
        };
        let _ = write!(
            text,
            "{events} {noun} in the write-ahead log for the output `{output}`, {why}. Choose one:\n  \
             - {back}; or\n  \
             - if it was renamed, set its previous name: `outputs: {{NEW: {{was: {output}, ...}}}}`; or\n  \
             - discard the events: `--discard-removed {output}`, or `--discard-removed {output}=dead_letters` to move them to the \
             dead letter queue\n"
        );
    }
    if !given_up.is_empty() {
        let names: Vec<_> = given_up.iter().map(|one| format!("`{}`", one.name)).collect();
        let _ = writeln!(text, "`--discard-removed` names only {}", names.join(", "));
    }
    text + "nothing was changed, and Tailwater did not start"
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
            "an earlier start reported this damage in the write-ahead log; it stays until its segment is delivered"
        );
    } else if damage.is_whole_log() {
        tracing::error!(log, "{finding}; its undelivered events are lost, everything else continues");
    } else if *bytes == 0 {
        tracing::error!(
            log,
            segment,
            %file,
            frames,
            "a segment of the write-ahead log is missing: {finding}; its undelivered events are lost, everything else continues"
        );
    } else if let Some(reason) = &damage.uncopied {
        tracing::error!(
            log,
            segment,
            %file,
            offset,
            bytes,
            frames,
            "damage in the write-ahead log: {finding}; undelivered events in these bytes may be lost, everything else continues. \
             The bytes could not be copied: {reason}. They stay in the file until its events are delivered, then they are \
             overwritten: copy the file before that if you want to examine them"
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
            "damage in the write-ahead log: {finding}; undelivered events in these bytes may be lost, everything else continues"
        );
    }
}

fn cut(cut: &Cut) {
    let Cut { log, sequences, behind } = *cut;
    if behind == 0 {
        tracing::info!(
            log = log.0,
            sequences,
            "the last batch of the write-ahead log is incomplete and is removed; it was not acknowledged, so it is read or sent \
             again"
        );
        return;
    }
    tracing::warn!(
        log = log.0,
        sequences,
        behind,
        "the end of the write-ahead log, which was not synced, is damaged: it is removed with the complete frames after it; \
         events that were acknowledged before they were synced are lost, files are read again from that position"
    );
}
