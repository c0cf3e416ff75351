//! A short summary of the plan, for `validate` and for the application log at the start.

use super::component::Table;
use super::plan::Plan;
use super::raw::Shards;
use super::types::{ByteSize, Period};
use std::fmt::Write as _;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::env::Env;
use tailwater_shards::wal::{SyncPolicy, WalType};

impl Plan {
    /// The summary of what will run.
    pub fn summary<E: Env>(&self) -> String {
        let mut out = String::new();
        let mut line = |key: &str, value: String| {
            let _ = writeln!(out, "{key:<10} {value}");
        };
        line("data_dir", self.data_dir.display().to_string());
        line("shards", self.shards_summary());
        line("admin", self.admin.as_ref().map_or_else(|| "off".to_owned(), |admin| format!("http://{}", admin.listen)));
        line("wal", self.wal_summary());
        for input in &self.inputs {
            let note = if input.used { "" } else { " (in no pipeline, not started)" };
            line("input", format!("{}: {}{note}", input.name, input.settings.type_name()));
        }
        for pipeline in &self.pipelines {
            let inputs: Vec<&str> = pipeline.inputs.iter().map(|&index| self.inputs[index].name.as_str()).collect();
            let outputs: Vec<&str> = pipeline.outputs.iter().map(|&index| self.outputs[index].name.as_str()).collect();
            line("pipeline", format!("{}: {} -> {}", pipeline.name, inputs.join(", "), outputs.join(", ")));
        }
        for output in &self.outputs {
            let note = if output.used { "" } else { " (in no pipeline, not started)" };
            let policy = match output.settings.when_full::<E>() {
                OutputFull::Block => "",
                OutputFull::DropOldest => ", drops its oldest events when the WAL is full",
                OutputFull::Sample => {
                    ", drops nine of ten events while the WAL fills up, and its oldest when it is full"
                }
            };
            line("output", format!("{}: {}{policy}{note}", output.name, output.settings.type_name()));
        }
        if !self.tests.is_empty() {
            line("tests", format!("{}, which `tailwater test` runs", self.tests.len()));
        }
        out.push_str(&super::sums::summary(&self.sums));
        out
    }

    fn shards_summary(&self) -> String {
        match &self.shards {
            Shards::Auto => format!("{}, one per core", self.shard_count),
            Shards::Count(count) => count.to_string(),
            Shards::Cpus(cpus) => {
                let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
                format!("{} pinned to CPUs {}", cpus.len(), cpus.join(", "))
            }
        }
    }

    fn wal_summary(&self) -> String {
        let kind = match self.wal.kind {
            WalType::Disk => "disk",
            WalType::Memory => "memory",
        };
        let sync = match self.wal.sync {
            SyncPolicy::EveryBatch => "before each acknowledgement".to_owned(),
            SyncPolicy::Interval(interval) => format!("every {}", Period(interval)),
            SyncPolicy::Never => "never".to_owned(),
        };
        let (segments, each) = (self.wal.log_bytes / self.wal.segment_bytes.max(1), ByteSize(self.wal.segment_bytes));
        format!("{kind}, synced {sync}, {segments} segments of {each} per shard")
    }
}
