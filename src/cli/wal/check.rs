//! `wal check`: what a start would find.

use super::super::{Exit, output};
use super::Data;

/// Runs the verb: exit 1 if a byte is damaged.
pub fn run(data: &Data) -> anyhow::Result<Exit> {
    let (mut logs, mut events, mut damages) = (0u64, 0u64, 0u64);
    for id in data.logs()? {
        let log = data.scan(id)?;
        logs += 1;
        events += log.events;
        let (segments, last) = (log.segments.len(), log.last.0);
        output::print(&format!(
            "log {}: {segments} segments, {} events up to sequence {last}, ends by: {}\n",
            id.0, log.events, log.ended_by
        ))?;
        for damage in &log.damage {
            damages += 1;
            output::print(&format!(
                "  damaged: segment {}, {} bytes from byte {}: {}\n",
                damage.segment, damage.bytes, damage.offset, damage.finding
            ))?;
        }
    }
    output::print(&format!("{logs} logs, {events} events, {damages} damaged places\n"))?;
    if damages == 0 {
        return Ok(Exit::Done);
    }
    let help = match data.live {
        true => "a Tailwater is running here and may have written meanwhile: stop it and check again\n",
        false => "a start copies damaged bytes to `quarantine` in the data directory and goes on behind them\n",
    };
    output::complain(help);
    Ok(Exit::Failed)
}
