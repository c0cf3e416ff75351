//! A scripted input.
//!
//! Guarantees: reads its sources in order from the positions that the logs know, gaps first. Acknowledgements are recorded in
//! the ledger when they are seen. Ends with an error between two batches, or panics while filling one, depending on the mood.

use super::{Ledger, Mood, raw_line};
use crate::batch::{Batch, EventSpan, Source, SourceRange};
use crate::env::Env;
use crate::limits::CHUNK_BYTES;
use crate::plugin::{InputContext, InputSpec, LocalFuture, Placement, PluginError, Ticket};
use crate::stop::Phase;
use futures_lite::future::{or, poll_once};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Reads the ledger's sources of one input.
pub struct ScriptInput {
    /// Its index.
    pub index: usize,
    /// On which shards it runs.
    pub placement: Placement,
    /// What it reads and where it records acknowledgements.
    pub ledger: Ledger,
    /// The outputs of its events.
    pub outputs: Vec<usize>,
    /// Maximum events of a batch.
    pub batch_events_max: u64,
    /// Maximum bytes of a batch.
    pub batch_bytes_max: usize,
    /// Number of pipelines of its batches, and the bytes of lines in one of them above which the log may accept it in parts.
    pub pipelines: usize,
    /// See [`ScriptInput::pipelines`].
    pub parted_from_bytes: usize,
    /// Whether it must answer its clients before it ends: it waits until everything that it sent is acknowledged.
    pub answers: bool,
}

impl<E: Env> InputSpec<E> for ScriptInput {
    fn placement(&self) -> Placement {
        self.placement
    }

    fn run(&self, context: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>> {
        let sources = self.ledger.state().sources.len();
        let mine = |source: &usize| {
            let input = self.ledger.state().sources[*source].input;
            let here = self.ledger.owner(*source, context.shards) == context.env.shard().index();
            input == self.index && (self.placement == Placement::One || here)
        };
        let positions: Vec<Place> = (0..sources).filter(mine).map(|source| self.place(source, &context)).collect();
        let reader = Reader {
            context,
            ledger: self.ledger.clone(),
            outputs: self.outputs.clone(),
            events_max: self.batch_events_max,
            bytes_max: self.batch_bytes_max,
            parted_from_bytes: if self.pipelines > 1 { self.parted_from_bytes / self.pipelines } else { usize::MAX },
            answers: self.answers,
            positions,
            waiting: VecDeque::new(),
        };
        Box::pin(reader.run())
    }
}

impl ScriptInput {
    /// Where reading of a source continues: at the first byte that no log covers.
    fn place<E: Env>(&self, number: usize, context: &InputContext<E>) -> Place {
        let state = self.ledger.state();
        let script = &state.sources[number];
        let name = number.to_string().into_bytes();
        let known = context.resume.iter().find(|known| known.source.name == name);
        let source = known.map_or_else(
            || {
                Arc::new(Source {
                    key: context.new_key(),
                    input: context.name.clone(),
                    name: name.clone(),
                    descriptor: vec![number as u8; 8],
                    repeatable: script.repeatable,
                })
            },
            |known| known.source.clone(),
        );
        let done = known.map_or(Vec::new(), |known| known.intervals.clone());
        let next = if script.repeatable { 0 } else { script.read };
        let gone = known.is_some_and(|known| known.gone.is_some());
        let forgotten = script.gone && known.is_none();
        if forgotten {
            // The source is gone, and the log has remembered it for as long as necessary.
            return Place { number, source, done, next: script.events(), gone: true };
        }
        Place { number, source, done, next, gone }
    }
}

/// Number of unacknowledged batches that are checked each time.
const WAITING_LOOKED_AT: usize = 8;

/// The reading state of one source.
struct Place {
    number: usize,
    source: Arc<Source>,
    done: Vec<(u64, u64)>,
    next: u64,
    gone: bool,
}

/// Events in transit.
struct Sent {
    ticket: Ticket,
    source: u64,
    first: u64,
    end: u64,
}

struct Reader<E: Env> {
    context: InputContext<E>,
    ledger: Ledger,
    outputs: Vec<usize>,
    events_max: u64,
    bytes_max: usize,
    parted_from_bytes: usize,
    answers: bool,
    positions: Vec<Place>,
    waiting: VecDeque<Sent>,
}

impl<E: Env> Reader<E> {
    async fn run(mut self) -> Result<(), PluginError> {
        let stop = self.context.stop.clone();
        while !stop.is_asked() {
            let mut idle = true;
            for at in 0..self.positions.len() {
                if stop.is_asked() {
                    break;
                }
                idle &= !self.read(at).await;
                self.see_acknowledgements().await;
                let mood = self.ledger.state().inputs;
                if Mood::strikes(mood.retry, self.context.env.random()) {
                    self.ledger.state().told.input_failures += 1;
                    return Err(PluginError::Retry("a scripted failure of an input".to_owned()));
                }
            }
            if idle {
                let most = if self.ledger.state().rests { 400_000 } else { 20_000 };
                let pause = Duration::from_micros(self.context.env.random() % most);
                let drain = async { stop.reached(Phase::Draining).await };
                let settled = async {
                    self.context.lanes.settle().await;
                    std::future::pending().await
                };
                or(or(self.context.env.sleep(pause), drain), settled).await;
            } else if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
        }
        // Like an input that must answer its clients before it ends.
        while self.answers && !self.waiting.is_empty() && stop.phase() < Phase::Forced {
            self.see_acknowledgements().await;
            self.context.lanes.settle().await;
            self.context.env.sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Sends the next batch of a source, if it has one.
    async fn read(&mut self, at: usize) -> bool {
        if self.context.lanes.rests(self.positions[at].source.key) {
            return false;
        }
        let Some((first, end, bytes)) = self.next_events(at) else { return self.say_farewell(at).await };
        self.positions[at].gone = false;
        let (number, source) = (self.positions[at].number, self.positions[at].source.clone());
        let lanes = self.context.lanes.clone();
        let mut batch = match bytes > CHUNK_BYTES {
            true => lanes.large_batch(&source, bytes).await,
            false => lanes.batch(&source).await,
        };
        self.ledger.offered(self.context.env.now(), number as u64, first, end, &self.outputs);
        if bytes >= self.parted_from_bytes {
            self.ledger.parted(number as u64, first, end);
        }
        let mood = self.ledger.state().inputs;
        if Mood::strikes(mood.panic, self.context.env.random()) {
            // Simulates a peer that disconnects in the middle of an event: the partial batch is not sent.
            let mut state = self.ledger.state();
            state.told.input_panics += 1;
            fill(&mut batch, &state.sources[number], number as u64, first, first + (end - first) / 2);
            drop(state);
            std::panic::resume_unwind(Box::new("a scripted panic of an input"));
        }
        {
            let mut state = self.ledger.state();
            let script = &mut state.sources[number];
            fill(&mut batch, script, number as u64, first, end);
            script.read = script.read.max(end);
        }
        batch.received = self.context.env.wall();
        self.positions[at].next = end;
        if let Some(ticket) = lanes.send(batch).await {
            self.waiting.push_back(Sent { ticket, source: number as u64, first, end });
        }
        self.ledger.state().sources[number].next = end;
        true
    }

    /// Reports that a source which was read to its end is gone. Returns whether that had to be reported.
    async fn say_farewell(&mut self, at: usize) -> bool {
        let place = &mut self.positions[at];
        let (end, ended_at) = {
            let state = self.ledger.state();
            let script = &state.sources[place.number];
            let end = script.offsets.last().copied().filter(|_| script.ended && script.events() > 0);
            (end, script.events())
        };
        let Some(end) = end.filter(|_| !place.gone) else { return false };
        place.gone = true;
        let place_number = place.number;
        let mut batch = self.context.lanes.batch(&place.source).await;
        batch.range = SourceRange { from: end, to: end, marker: marker(end) };
        batch.received = self.context.env.wall();
        batch.gone = true;
        let (source, first) = (place_number as u64, ended_at);
        if let Some(ticket) = self.context.lanes.send(batch).await {
            self.waiting.push_back(Sent { ticket, source, first, end: first });
        }
        true
    }

    /// The events `first..end` that are not covered yet, and their bytes.
    fn next_events(&mut self, at: usize) -> Option<(u64, u64, usize)> {
        let place = &mut self.positions[at];
        let mut state = self.ledger.state();
        let script = &mut state.sources[place.number];
        let covered = |script: &super::SourceScript, event: u64| {
            let from = script.offsets[event as usize];
            place.done.iter().any(|&(start, end)| start <= from && from < end)
        };
        while place.next < script.events() && covered(script, place.next) {
            place.next += 1;
        }
        script.next = place.next;
        let first = place.next;
        if first >= script.events() {
            return None;
        }
        let wanted = 1 + self.context.env.random() % self.events_max;
        let mut end = first;
        let mut bytes = 0;
        while end < script.events() && end - first < wanted && !covered(script, end) {
            let next = (script.offsets[end as usize + 1] - script.offsets[first as usize]) as usize;
            if end > first && next > self.bytes_max {
                break;
            }
            bytes = next;
            end += 1;
        }
        Some((first, end, bytes))
    }

    async fn see_acknowledgements(&mut self) {
        // Lanes acknowledge independently, so a waiting one does not delay the others. Each lane acknowledges in order, so
        // checking the first few is enough.
        let mut at = 0;
        while at < self.waiting.len().min(WAITING_LOOKED_AT) {
            let ticket = self.waiting[at].ticket;
            if poll_once(self.context.lanes.acknowledged(ticket)).await.is_none() {
                at += 1;
            } else if let Some(sent) = self.waiting.remove(at) {
                let now = self.context.env.now();
                self.ledger.acknowledged(now, sent.source, sent.first, sent.end, &self.outputs);
            }
        }
    }
}

fn marker(to: u64) -> u64 {
    to ^ 0x5a5a
}

fn fill(batch: &mut Batch, script: &super::SourceScript, source: u64, first: u64, end: u64) {
    let mut length = 0;
    for ordinal in first..end {
        let line = raw_line(source, ordinal, script.lengths[ordinal as usize]);
        batch.chunk.spare()[..line.len()].copy_from_slice(&line);
        batch.chunk.spare()[line.len()] = b'\n';
        batch.events.push(EventSpan { start: length as u32, end: (length + line.len()) as u32 });
        length += line.len() + 1;
        batch.chunk.set_length(length);
    }
    let to = script.offsets[end as usize];
    batch.range = SourceRange { from: script.offsets[first as usize], to, marker: marker(to) };
    batch.chunk_offset = batch.range.from;
}
