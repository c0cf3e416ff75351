//! Plan to engine to drained: the one place where everything is wired.

use crate::config::Plan;
use crate::telemetry::log::LogCounter;

/// Runs a plan until a signal or an output ends it, and drains. The log is running; `counter` reads its counts for the metrics.
/// An error is what standard error shows in one line before the process ends with 1.
pub fn run(plan: Plan, _counter: LogCounter) -> anyhow::Result<()> {
    anyhow::bail!("this build cannot run {}: the engine is not wired in", plan.data_dir.display())
}
