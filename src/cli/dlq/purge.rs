//! `dlq purge`: removes dead letters.

use super::super::{Exit, output};
use super::choice::{Choice, Moment, moment};
use crate::cli::configuration::Place;
use clap::Args;
use tailwater_shards::counted::counted;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    choice: Choice,
    /// Only dead letters made before this time (2026-11-23T08:00:00Z), or longer ago than this (7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<Moment>,
    /// Remove them; without this option they are only counted
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(queue) = super::queue(&arguments.place)? else { return Ok(Exit::Configuration) };
    let wanted = |kept: &tailwater_shards::dlq::KeptLetter<'_>| {
        arguments.choice.takes(&kept.letter) && arguments.before.is_none_or(|before| before.is_after(kept))
    };
    if !arguments.yes {
        let mut letters = 0;
        queue.letters(|_, kept| {
            letters += u64::from(wanted(kept));
            Ok(true)
        })?;
        if letters == 0 {
            arguments.choice.tell_of_unknown(&queue)?;
        }
        output::complain(&format!("{} would be removed; add --yes to confirm\n", counted(letters, "letter")));
        return Ok(Exit::Usage);
    }
    let claim = queue.claim(wanted)?;
    let letters = claim.letters;
    claim.finish()?;
    if letters == 0 {
        arguments.choice.tell_of_unknown(&queue)?;
    }
    output::print(&format!("{} removed\n", counted(letters, "letter")))?;
    Ok(Exit::Done)
}
