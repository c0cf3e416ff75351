//! `schema`: the JSON Schema of the configuration, for editors.

use super::{Exit, output};
use crate::config;
use clap::Args;

/// Print the JSON Schema of the configuration file
///
/// An editor with a YAML language server uses it to complete and check a file that begins with `# yaml-language-server:
/// $schema=tailwater.schema.json`.
#[derive(Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_: &Arguments) -> anyhow::Result<Exit> {
    let schema = serde_json::to_string_pretty(&config::schema())?;
    output::print(&format!("{schema}\n")).map(|()| Exit::Done)
}
