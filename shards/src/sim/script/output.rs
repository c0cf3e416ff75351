//! Scripted outputs: one that only counts, and one that writes a file and never repeats an event.
//!
//! Guarantees: accepted events are recorded in the ledger in order. A commit states how many there were, so that the point to
//! which an output goes back is known exactly. When the exact output is opened, it goes back to its last durable commit, as the
//! file output does, or, if that is lost, to what it has synced.

use super::{Ledger, Mood, decode_line};
use crate::env::{Disk, Env, File as _, Open};
use crate::limits::COMMIT_STATE_BYTES_MAX;
use crate::plugin::{
    Delivery, LocalFuture, OpenResult, Outcome, Output, OutputContext, OutputSpec, Placement, PluginError, Resume,
};
use crate::sim::oracle::{Event, OutputIndex};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Records each delivery in the ledger.
pub struct ScriptOutput {
    /// Its index.
    pub index: usize,
    /// On which shards it runs.
    pub placement: Placement,
    /// The ledger.
    pub ledger: Ledger,
}

/// Writes lines into a file on the environment's disk. Its commits carry the length.
pub struct ExactOutput {
    /// Its index.
    pub index: usize,
    /// The ledger, which has its mood.
    pub ledger: Ledger,
    /// The file.
    pub path: PathBuf,
}

/// Handles a commit according to the mood.
async fn commit_as_the_mood_says<E: Env>(env: &E, ledger: &Ledger, output: usize) -> Result<(), PluginError> {
    let mood = ledger.state().outputs[output].mood;
    if Mood::strikes(mood.late, env.random()) {
        ledger.state().told.late_commits += 1;
        env.sleep(Duration::from_micros(env.random() % 2_000_000)).await;
    }
    if Mood::strikes(mood.unsure, env.random()) {
        ledger.state().told.unsure_commits += 1;
        return Err(PluginError::Retry("a scripted doubt of an output".to_owned()));
    }
    Ok(())
}

/// Misbehaves, according to the mood, before a delivery is processed.
async fn misbehave<E: Env>(env: &E, ledger: &Ledger, output: usize) -> Option<Outcome> {
    let mood = ledger.state().outputs[output].mood;
    if Mood::strikes(mood.panic, env.random()) {
        ledger.tell(env.now(), format!("output {output} panics"));
        let mut state = ledger.state();
        state.outputs[output].last = None;
        state.told.output_panics += 1;
        drop(state);
        std::panic::resume_unwind(Box::new("a scripted panic of an output"));
    }
    if Mood::strikes(mood.hang, env.random()) {
        ledger.tell(env.now(), format!("output {output} hangs"));
        ledger.state().told.hangs += 1;
        while ledger.state().outputs[output].mood.hang > 0 {
            env.sleep(Duration::from_millis(50)).await;
        }
    }
    if Mood::strikes(mood.slow, env.random()) {
        ledger.state().told.slow += 1;
        env.sleep(Duration::from_micros(env.random() % 200_000)).await;
    }
    let retry = Mood::strikes(mood.retry, env.random());
    ledger.state().told.retries += u64::from(retry);
    retry.then(|| Outcome::Retry { after: mood.after, error: "a scripted failure of an output".to_owned() })
}

impl<E: Env> OutputSpec<E> for ScriptOutput {
    fn placement(&self) -> Placement {
        self.placement
    }

    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult> {
        let instance = context.env.shard().0;
        let (ledger, env) = (self.ledger.clone(), context.env);
        let output = Counting { index: self.index, instance, ledger, env, retried: None };
        let one = self.placement == Placement::One;
        Box::pin(async move {
            let state = resume.state;
            let committed = state.first_chunk().copied().map(u64::from_le_bytes);
            let made = state.get(8..).and_then(|made| made.try_into().ok()).map(u64::from_le_bytes);
            if let Some(made) = made {
                output.ledger.knows(output.index, made);
            }
            if let Some(made) = made.filter(|_| !one) {
                output.ledger.goes_on_with(output.index, instance, made);
            }
            let joined = output.ledger.state().outputs[output.index].joined;
            let covered = one.then(|| committed.unwrap_or(joined));
            output.ledger.opens(output.index, instance);
            output.ledger.opened(output.index, instance, output.env.now(), covered);
            let mood = output.ledger.state().outputs[output.index].mood;
            if Mood::strikes(mood.retry, output.env.random()) {
                output.ledger.state().told.closed += 1;
                return Err(PluginError::Retry("a scripted refusal to open".to_owned()));
            }
            output.ledger.is_open(output.index, instance);
            Ok(Box::new(output) as Box<dyn Output>)
        })
    }
}

struct Counting<E: Env> {
    index: usize,
    instance: u16,
    ledger: Ledger,
    env: E,
    /// The delivery for which a retry was requested: the number of the attempt, and its events.
    retried: Option<(u32, Vec<Event>)>,
}

/// Whether an output that rejects some events rejects this one: the same each time it is delivered.
fn refuses(event: &Event) -> bool {
    event.payload.is_multiple_of(7)
}

/// The events of a delivery. A panic would count as a panic of the output, so errors are reported to the oracle.
fn events_of(ledger: &Ledger, output: usize, delivery: &Delivery<'_>) -> Vec<Event> {
    let events: Vec<Event> = delivery.iter().filter_map(|event| decode_line(event.line)).collect();
    if events.is_empty() {
        ledger.state().oracle.garbled(OutputIndex(output as u8), "a delivery without events");
    }
    if events.len() as u64 != delivery.events || delivery.iter().count() as u64 != delivery.events {
        let what = format!("{} events in a delivery of {}", events.len(), delivery.events);
        ledger.state().oracle.garbled(OutputIndex(output as u8), &what);
    }
    events
}

impl<E: Env> Output for Counting<E> {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(async move {
            let outcome = misbehave(&self.env, &self.ledger, self.index).await;
            let events = events_of(&self.ledger, self.index, delivery);
            self.count_attempts(delivery.attempt, &events);
            self.slow_on_one_source(&events).await;
            if let Some(retry) = outcome {
                self.retried = Some((delivery.attempt, events.clone()));
                let part = events.len() * (self.env.random() % 2) as usize / 2;
                let rejects = self.ledger.state().outputs[self.index].rejects;
                let part: Vec<Event> =
                    events[..part].iter().filter(|event| !rejects || !refuses(event)).copied().collect();
                self.ledger.partly_delivered(self.index, self.instance, self.env.now(), &part);
                return retry;
            }
            if let Some(wild) = self.answers_wildly(&events) {
                return wild;
            }
            if !self.ledger.state().outputs[self.index].rejects {
                self.ledger.delivered(self.index, self.instance, self.env.now(), &events);
                let mut state = self.ledger.state();
                let record = &mut state.outputs[self.index];
                record.accepted += delivery.events;
                record.last = events.last().copied();
                return Outcome::Delivered;
            }
            let taken: Vec<Event> = events.iter().filter(|event| !refuses(event)).copied().collect();
            self.ledger.delivered(self.index, self.instance, self.env.now(), &taken);
            let mut state = self.ledger.state();
            let record = &mut state.outputs[self.index];
            record.accepted += taken.len() as u64;
            record.last = events.last().copied();
            let refused: Vec<usize> = (0..events.len()).filter(|at| refuses(&events[*at])).collect();
            record.refused += refused.len() as u64;
            let output = OutputIndex(self.index as u8);
            for &at in &refused {
                state.oracle.refused(output, events[at].source, events[at].ordinal);
            }
            Outcome::Rejected(refused.iter().map(|&at| (at as u64, "scripted".to_owned())).collect())
        })
    }

    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        Box::pin(async move {
            commit_as_the_mood_says(&self.env, &self.ledger, self.index).await?;
            let covered = self.ledger.commits(self.index, self.instance, self.env.now());
            state.extend_from_slice(&covered.to_le_bytes());
            let large = self.ledger.state().outputs[self.index].mood.large;
            if Mood::strikes(large, self.env.random()) {
                self.ledger.state().told.large_states += 1;
                state.resize(COMMIT_STATE_BYTES_MAX + 1, 0);
                return Ok(());
            }
            let made = (self.index as u64) << 48 | self.ledger.state().life << 16 | u64::from(self.instance);
            state.extend_from_slice(&made.to_le_bytes());
            Ok(())
        })
    }
}

impl<E: Env> Counting<E> {
    /// Compares the number of the attempt with what this instance saw: the same events again, or new ones.
    fn count_attempts(&mut self, attempt: u32, events: &[Event]) {
        let expected = match self.retried.take() {
            Some((before, again)) if again == events => before + 1,
            _ => 0,
        };
        // Events that were given up may be delivered once more.
        let again = attempt == 0 && self.ledger.state().reads_again;
        if attempt != expected && !again {
            let what = format!("attempt {attempt} of a delivery, expected {expected}");
            self.ledger.state().oracle.garbled(OutputIndex(self.index as u8), &what);
        }
    }

    /// Accepts all events but the first, and reports that one twice as rejected, and also events that do not exist.
    fn answers_wildly(&self, events: &[Event]) -> Option<Outcome> {
        let mood = self.ledger.state().outputs[self.index].mood;
        let (first, rest) = events.split_first().filter(|_| Mood::strikes(mood.wild, self.env.random()))?;
        if self.ledger.state().outputs[self.index].rejects {
            return None;
        }
        self.ledger.delivered(self.index, self.instance, self.env.now(), rest);
        let mut state = self.ledger.state();
        state.told.wild_answers += 1;
        state.oracle.refused(OutputIndex(self.index as u8), first.source, first.ordinal);
        let record = &mut state.outputs[self.index];
        record.accepted += rest.len() as u64;
        record.refused += 1;
        record.last = events.last().copied();
        let why = || "scripted".to_owned();
        Some(Outcome::Rejected(vec![(u64::MAX, why()), (0, why()), (events.len() as u64, why()), (0, why())]))
    }

    async fn slow_on_one_source(&self, events: &[Event]) {
        let slow = self.ledger.state().outputs[self.index].mood.slow_source;
        if slow.is_some_and(|slow| events.iter().any(|event| event.source == slow)) {
            self.ledger.state().told.slow_sources += 1;
            self.env.sleep(Duration::from_micros(20_000 + self.env.random() % 80_000)).await;
        }
    }
}

impl<E: Env> OutputSpec<E> for ExactOutput {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult> {
        let (index, ledger, path) = (self.index, self.ledger.clone(), self.path.clone());
        Box::pin(async move {
            let synced = ledger.state().outputs[index].synced_bytes;
            let kept = ledger.state().outputs[index].kept_bytes;
            let Resume { state, again_bytes } = resume;
            let committed = state.try_into().map_or(0, u64::from_le_bytes).max(kept);
            let env = context.env;
            let disk = env.disk().clone();
            ledger.opens(index, env.shard().0);
            let opened = env.blocking(move || {
                let file = disk.open(&path, Open::Create)?;
                let there = file.stat()?.length;
                let beyond = there.saturating_sub(committed);
                // Bytes beyond what is delivered again stay, as far as they are whole lines. An interrupted start may have truncated
                // them.
                let length =
                    if again_bytes.is_some_and(|again| beyond <= again) { committed } else { synced.min(there) };
                file.truncate(length)?;
                disk.sync_dir(path.parent().unwrap_or(&path))?;
                Ok::<_, std::io::Error>((file, length, beyond))
            });
            let (file, length, beyond) = opened.await.map_err(|error| PluginError::Retry(error.to_string()))?;
            ledger.tell(env.now(), format!("output {index} goes on from byte {length} of its file"));
            let mut state = ledger.state();
            state.outputs[index].again_bytes = again_bytes;
            if again_bytes.is_none_or(|again| beyond > again) {
                // Events that a power loss removed from the log but left in the file are delivered once more.
                let torn = state.torn;
                let what = format!(
                    "its file has {beyond} bytes more than were committed, of which {again_bytes:?} come again"
                );
                if !torn {
                    state.oracle.garbled(OutputIndex(index as u8), &what);
                }
                state.outputs[index].kept_bytes = length;
                (0..state.sources.len() as u64).for_each(|source| state.oracle.forgotten(source));
            }
            state.outputs[index].file_bytes = length;
            state.outputs[index].synced_bytes = length;
            // Everything after that is delivered again.
            state.outputs[index].written.clear();
            drop(state);
            ledger.is_open(index, env.shard().0);
            Ok(Box::new(Exact { index, ledger, env, file: Arc::new(file), length }) as Box<dyn Output>)
        })
    }
}

/// A failed sync proves nothing when it is called again, here or after the file was reopened.
fn unsynced(error: std::io::Error) -> PluginError {
    PluginError::Fatal(format!("the file cannot be synced: {error}"))
}

struct Exact<E: Env> {
    index: usize,
    ledger: Ledger,
    env: E,
    file: Arc<<E::Disk as Disk>::File>,
    length: u64,
}

impl<E: Env> Output for Exact<E> {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(async move {
            if let Some(outcome) = misbehave(&self.env, &self.ledger, self.index).await {
                return outcome;
            }
            let length = self.length;
            self.ledger.tell(self.env.now(), format!("output {} writes {} at {length}", self.index, delivery.events));
            let bytes: Vec<u8> = delivery.iter().flat_map(|event| event.line.iter().copied()).collect();
            if let Err(error) = self.file.write_at(&bytes, self.length) {
                // A part may have been written. If these events are given up, nothing would write over it.
                drop(self.file.truncate(self.length));
                return Outcome::Retry { after: None, error: error.to_string() };
            }
            self.length += bytes.len() as u64;
            let mut state = self.ledger.state();
            let record = &mut state.outputs[self.index];
            record.accepted += delivery.events;
            record.file_bytes = self.length;
            for event in delivery.iter().filter_map(|event| decode_line(event.line)) {
                let highest = record.written.entry(event.source).or_default();
                *highest = event.ordinal.max(*highest);
            }
            Outcome::Delivered
        })
    }

    fn begin_sync(&mut self) -> LocalFuture<'static, Result<(), PluginError>> {
        let (env, file) = (self.env.clone(), self.file.clone());
        Box::pin(async move { env.sync(&file).await.map_err(unsynced) })
    }

    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        Box::pin(async move {
            commit_as_the_mood_says(&self.env, &self.ledger, self.index).await?;
            self.env.sync(&self.file).await.map_err(unsynced)?;
            self.ledger.state().outputs[self.index].synced_bytes = self.length;
            state.extend_from_slice(&self.length.to_le_bytes());
            Ok(())
        })
    }
}
