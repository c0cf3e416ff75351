//! `wal cat`: prints the events in the write-ahead log, as the outputs receive them.

use super::super::Exit;
use super::super::output::{self, ReaderGone};
use super::{Data, frames};
use crate::cli::configuration::Place;
use crate::codec::visible::visible_json;
use clap::Args;
use std::io::{self, BufWriter, IsTerminal, Write};
use tailwater_shards::wal::LogId;
use tailwater_shards::wal::frame::FrameKind;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    /// Print only this log
    #[arg(long, value_name = "ID")]
    log: Option<u64>,
    /// Start at this sequence number in each log
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: u64,
}

/// Runs the command.
pub fn run(data: &Data, arguments: &Arguments) -> anyhow::Result<Exit> {
    let logs = data.logs()?;
    if let Some(id) = arguments.log.filter(|id| !logs.contains(&LogId(*id))) {
        anyhow::bail!("there is no log {id}; use `tailwater wal ls` to list the logs");
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let terminal = io::stdout().is_terminal();
    let mut damages = 0;
    for id in logs.into_iter().filter(|id| arguments.log.is_none_or(|only| only == id.0)) {
        let log = data.scan(id)?;
        damages += log.damage.len();
        frames(&log, |header, view| {
            if header.kind == FrameKind::Events && header.sequence.0 >= arguments.from {
                match terminal {
                    true => out.write_all(visible_json(&String::from_utf8_lossy(view.payload())).as_bytes()),
                    false => out.write_all(view.payload()),
                }
                .map_err(gone)?;
            }
            Ok(())
        })?;
    }
    out.flush().map_err(gone)?;
    if damages > 0 {
        output::complain(&format!(
            "note: skipped {}; see `tailwater wal check`\n",
            tailwater_shards::counted::counted(damages, "damaged place")
        ));
    }
    Ok(Exit::Done)
}

fn gone(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    }
}
