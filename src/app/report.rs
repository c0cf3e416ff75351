//! What a start tells of what it found: damage, ends of logs that were cut, outputs that left.
//!
//! Guarantees: each line says what was found, what it costs and what happens next. Changes nothing.

use tailwater_shards::engine::{Cut, Engine};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::wal::Damage;

/// Tells all of it.
pub(super) fn report(engine: &Engine<GlommioEnv>) {
    engine.damage.iter().for_each(damaged);
    engine.cut.iter().for_each(cut);
    for (name, events) in &engine.removed {
        if *events == 0 {
            tracing::info!(component_id = %name, "an output left the configuration; nothing waited for it");
            continue;
        }
        tracing::warn!(component_id = %name, events, "an output left the configuration: its waiting events are discarded");
    }
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
