//! `wal check`: reports the damage that a start would find.

use super::super::{Exit, output};
use super::Data;
use tailwater_shards::counted::counted;
use tailwater_shards::engine::lost_logs;
use tailwater_shards::wal::Damage;

/// Runs the command: exit code 1 if a byte is damaged, or a segment or log is missing.
pub fn run(data: &Data) -> anyhow::Result<Exit> {
    let (mut logs, mut events, mut damages) = (Vec::new(), 0u64, 0u64);
    for id in data.logs()? {
        let log = data.scan(id)?;
        events += log.events;
        let (segments, last) = (log.segments.len(), log.last.0);
        output::print(&format!(
            "log {}: {}, {} up to sequence {last}, ends by: {}\n",
            id.0,
            counted(segments, "segment"),
            counted(log.events, "event"),
            log.ended_by
        ))?;
        damages += log.damage.len() as u64;
        log.damage.iter().try_for_each(|damage| output::print(&line(damage)))?;
        logs.push(log);
    }
    let lost = lost_logs(data.known_logs(), &logs);
    damages += lost.len() as u64;
    lost.iter().try_for_each(|damage| output::print(&line(damage)))?;
    let (logs, places) = (counted(logs.len(), "log"), counted(damages, "damaged place"));
    output::print(&format!("{logs}, {}, {places}\n", counted(events, "event")))?;
    if damages == 0 {
        return Ok(Exit::Done);
    }
    let help = match data.live {
        true => "Tailwater is running here and may have written meanwhile: stop it and check again\n",
        false => {
            "the next start copies damaged bytes to `quarantine` in the data directory, and continues after them and without the \
             missing segments: if you have copies of the damaged or missing segments, restore them first\n"
        }
    };
    output::complain(help);
    Ok(Exit::Failed)
}

fn line(damage: &Damage) -> String {
    let Damage { log, segment, offset, bytes, finding, .. } = damage;
    if damage.is_whole_log() {
        return format!("log {}: missing: {finding}\n", log.0);
    }
    let frames = damage.frames().map_or_else(String::new, |frames| {
        format!("; {} {} lost with it", counted(frames, "frame"), if frames == 1 { "is" } else { "are" })
    });
    match bytes {
        0 => format!("  missing: segment {segment}: {finding}{frames}\n"),
        _ => {
            format!("  damaged: segment {segment}, {} from byte {offset}: {finding}{frames}\n", counted(*bytes, "byte"))
        }
    }
}
