//! Metrics: generates the Prometheus text from the engine's counters.
//!
//! Guarantees: a scrape reads counters and takes no lock that a shard waits for. Outgoing counters are read before incoming ones,
//! so no scrape shows more delivered events than received ones. Buffered events are those that were received or recovered and are
//! not yet delivered, dead-lettered or discarded. Labels hold names of the configuration only; what servers and files are called is
//! spelled out as in the log. Does not keep history and defines no names: [`table`] does.

use crate::codec::visible::visible;
use crate::telemetry::table::{self, Kind, Metric as Declared};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tailwater_shards::counters::{
    Counter as Counted, DeadLettered, Discard, Interference, LaneCounters, LetterHolder, Lost, ShardCounters, Trouble,
    Waits,
};
use tailwater_shards::engine::Meters;
use tailwater_shards::env::ShardId;
use tailwater_shards::glommio_env::{PulseReading, RealDisk};

/// The labels of a component.
#[derive(Clone, Debug)]
pub struct ComponentLabels {
    /// Its configured name.
    pub id: Arc<str>,
    /// The value of `type`.
    pub kind: &'static str,
}

/// Generates the text of a scrape.
pub struct Exporter {
    /// The engine's counters.
    pub meters: Arc<Meters<RealDisk>>,
    /// The inputs, in the order of the plan.
    pub inputs: Vec<ComponentLabels>,
    /// The outputs, in the order of the plan.
    pub outputs: Vec<ComponentLabels>,
    /// The names of the pipelines, in the order of the plan.
    pub pipelines: Vec<Arc<str>>,
    /// Outputs that were removed from the configuration, and how many events waited for them.
    pub removed: Vec<(String, u64)>,
    /// The heartbeats of the shards.
    pub pulses: Box<dyn Fn() -> Vec<PulseReading> + Send + Sync>,
    /// Returns how many lines of the application log were dropped.
    pub log_dropped: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Totals of a run over all components of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that inputs read from their sources.
    pub received: u64,
    /// Events that waited in the WAL at the start, once for each output.
    pub recovered: u64,
    /// Events delivered, once for each output.
    pub delivered: u64,
    /// Events that went to the dead letter queue.
    pub dead_lettered: u64,
    /// Events discarded, for whatever reason.
    pub discarded: u64,
    /// Bytes that disappeared before they could be read.
    pub lost_bytes: u64,
}

/// The metric families of one scrape, in order.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    /// Adds a value. `labels` are the values of the declared labels in order; an empty value leaves its label out.
    fn add(&mut self, declared: &Declared, labels: &[&str], value: f64) {
        debug_assert!(labels.len() == declared.labels.len(), "{} has other labels", declared.name);
        let named = declared.labels.iter().zip(labels).filter(|(_, value)| !value.is_empty());
        let mut metric = Metric::from_label(named.map(|(name, value)| label(name, value)).collect());
        match declared.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        if let Some(family) = self.0.iter_mut().find(|family| family.name() == declared.name) {
            family.mut_metric().push(metric);
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(declared.name.to_owned());
        family.set_help(declared.help.to_owned());
        family.set_field_type(match declared.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        family.mut_metric().push(metric);
        self.0.push(family);
    }

    fn count(&mut self, declared: &Declared, labels: &[&str], value: u64) {
        self.add(declared, labels, value as f64);
    }

    fn by_reason(&mut self, declared: &Declared, labels: [&str; 4], reason: &str, value: u64) {
        let [id, kind, of_type, shard] = labels;
        self.count(declared, &[id, kind, of_type, shard, reason], value);
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

impl Exporter {
    /// Whether every shard has opened its WAL.
    pub fn is_ready(&self) -> bool {
        (0..self.meters.shards.len()).all(|shard| self.meters.board.get(shard_id(shard)).is_some())
    }

    /// The current state of each output, and the components whose dead letters wait, one per line.
    pub fn outputs_state(&self) -> String {
        let mut text = String::new();
        for (output, component) in self.outputs.iter().enumerate() {
            let meters = self.meters.outputs.iter().filter(|meter| meter.output == output);
            let troubles: Vec<(usize, Trouble)> =
                meters.filter_map(|meter| Some((meter.shard, meter.counters.trouble.get()?))).collect();
            if troubles.is_empty() {
                let _ = writeln!(text, "output {}: ok", component.id);
            }
            for (shard, Trouble { since, attempts, error }) in troubles {
                let moment = jiff::Timestamp::from_nanosecond(since.0.into()).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "output {}: failing since {moment:.3} on shard {shard}, {attempts} attempts, the last: {}",
                    component.id,
                    visible(error)
                );
            }
        }
        for (shard, counters) in self.meters.shards.iter().enumerate() {
            for LetterHolder { kind, name, bytes, waits, drops_since } in counters.letter_holders.get() {
                let waits = waits.map(|Waits { since, source }| ("wait for space", since, source));
                let drops = drops_since.map(|since| ("are dropped for want of space", since, String::new()));
                for (what, since, source) in waits.into_iter().chain(drops) {
                    let moment = jiff::Timestamp::from_nanosecond(since.0.into()).unwrap_or_default();
                    let of_source = match source.is_empty() {
                        true => String::new(),
                        false => format!(", the first from {}", visible(source)),
                    };
                    let _ = writeln!(
                        text,
                        "{kind} {name}: dead letters {what} since {moment:.3} on shard {shard}{of_source}; the queue holds {bytes} \
                         bytes of it: replay or purge letters (tailwater dlq), raise dlq.max_bytes, or change dlq.when_full"
                    );
                }
            }
        }
        text
    }

    /// The type of a component, if it is configured.
    fn type_of(&self, kind: &str, name: &str) -> &'static str {
        let of = match kind {
            "input" => &self.inputs,
            "output" => &self.outputs,
            _ => return "",
        };
        of.iter().find(|component| *component.id == *name).map_or("", |component| component.kind)
    }

    /// The text of a scrape.
    pub fn text(&self) -> String {
        let mut families = Families::default();
        // Outputs come first: see the module.
        let passed = self.outputs(&mut families);
        self.buffered(&mut families, &passed);
        self.logs(&mut families);
        self.pipelines(&mut families);
        self.inputs(&mut families);
        self.process(&mut families);
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&families.0, &mut text);
        debug_assert!(encoded.is_ok(), "every family has metrics");
        String::from_utf8(text).unwrap_or_default()
    }

    /// The totals over all components.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for meter in &self.meters.outputs {
            let counters = &meter.counters;
            totals.delivered += counters.sent_events.get();
            totals.recovered += counters.recovered_events.get();
            totals.dead_lettered += counters.dead_lettered_total();
            totals.discarded += counters.discarded.total();
            totals.discarded += self.meters.wal_full[meter.shard][usize::from(meter.number.0)].total();
        }
        for pipelines in &self.meters.pipelines {
            totals.discarded += pipelines.iter().map(|counters| counters.discarded.total()).sum::<u64>();
            totals.dead_lettered += pipelines.iter().map(|counters| counters.dead_lettered_events.get()).sum::<u64>();
        }
        for meter in &self.meters.inputs {
            for lane in meter.lanes.iter().map(|lane| lane.counters()) {
                totals.dead_lettered += lane.dead_lettered_events.get();
                totals.discarded += lane.dropped_events.get() + lane.dlq_full_events.get();
            }
            totals.discarded += meter.counters.discarded.total();
            totals.received += meter.counters.received_events.get();
            totals.lost_bytes += meter.counters.lost_bytes.iter().map(Counted::get).sum::<u64>();
        }
        totals
    }

    /// How many events the output called `id` has delivered.
    pub fn delivered(&self, id: &str) -> u64 {
        let of = self.meters.outputs.iter().filter(|meter| *self.outputs[meter.output].id == *id);
        of.map(|meter| meter.counters.sent_events.get()).sum()
    }

    /// Returns for each output how many of its events have left the WAL, minus those that were in it at the start.
    fn outputs(&self, families: &mut Families) -> Vec<i128> {
        let mut passed = vec![0; self.outputs.len()];
        for meter in &self.meters.outputs {
            let component = &self.outputs[meter.output];
            let shard = meter.shard.to_string();
            let labels = labels_of(component, "output", &shard);
            let counters = &meter.counters;
            passed[meter.output] += counters.left();
            families.count(&table::SENT, &labels, counters.sent_events.get());
            families.count(&table::SENT_BYTES, &labels, counters.sent_bytes.get());
            for reason in Discard::ALL {
                let sampled = match reason {
                    Discard::WalFull => self.meters.wal_full[meter.shard][usize::from(meter.number.0)].get(reason),
                    _ => 0,
                };
                let events = counters.discarded.get(reason) + sampled;
                families.by_reason(&table::DISCARDED, labels, reason.name(), events);
            }
            for reason in DeadLettered::ALL {
                let events = counters.dead_lettered[reason as usize].get();
                families.by_reason(&table::DEAD_LETTERED, labels, reason.name(), events);
            }
            families.count(&table::ERRORS, &labels, counters.errors.get());
            families.count(&table::RECOVERED, &labels, counters.recovered_events.get());
            families.count(&table::RETRIES, &labels, counters.retries.get());
            for change in Interference::ALL {
                let times = counters.interferences[change as usize].get();
                families.by_reason(&table::FILE_CHANGES, labels, change.name(), times);
            }
            families.count(&table::HELD_FILES, &labels, counters.held_files.get());
            families.add(&table::UNUSABLE_FILES, &labels, counters.unusable_files.get() as f64);
            families.count(&table::UNNAMED, &labels, counters.unnamed_events.get());
            families.count(&table::EXCESS_PATHS, &labels, counters.excess_path_events.get());
            families.count(&table::EXCESS_INDEXES, &labels, counters.excess_index_events.get());
            families.count(&table::COMMITS, &labels, counters.commits.get());
            families.add(&table::OLDEST_UNACKED, &labels, age_seconds(counters.oldest_unacked.get()));
        }
        for (name, events) in &self.removed {
            let reason = Discard::OutputRemoved.name();
            families.by_reason(&table::DISCARDED, [name, "output", "", ""], reason, *events);
        }
        passed
    }

    /// The events in the WALs that wait for each output: appended or recovered, and neither sent nor discarded.
    fn buffered(&self, families: &mut Families, passed: &[i128]) {
        for (output, (component, passed)) in self.outputs.iter().zip(passed).enumerate() {
            let Some(meter) = self.meters.outputs.iter().find(|meter| meter.output == output) else { continue };
            let logs = (0..self.meters.shards.len()).filter_map(|shard| self.meters.board.get(shard_id(shard)));
            let appended: u64 = logs.map(|log| log.appended(meter.number)).sum();
            let waiting = (i128::from(appended) - passed).max(0);
            families.add(&table::BUFFERED, &[&component.id, "output", component.kind], waiting as f64);
        }
    }

    fn logs(&self, families: &mut Families) {
        for (index, counters) in self.meters.shards.iter().enumerate() {
            let shard = index.to_string();
            let labels = [shard.as_str()];
            families.add(&table::SYNC_SECONDS, &labels, seconds(counters.sync_nanos.get()));
            families.count(&table::SYNCS, &labels, counters.syncs.get());
            families.count(&table::WAL_FULL, &labels, counters.wal_full.get());
            families.count(&table::LETTERS, &labels, counters.dead_letters.get());
            families.count(&table::LETTERS_DROPPED, &labels, counters.dead_letters_dropped.get());
            families.count(&table::LETTERS_LOST, &labels, counters.dead_letters_lost.get());
            families.count(&table::LETTERS_FULL, &labels, counters.dead_letters_full.get());
            families.count(&table::LETTERS_DISK, &labels, counters.dead_letter_bytes.get());
            self.letters(families, counters, &shard);
            families.count(&table::PANICS, &labels, counters.plugin_panics.get());
            let Some(log) = self.meters.board.get(shard_id(index)) else { continue };
            families.count(&table::WAL_DISK, &labels, log.disk_bytes());
            families.count(&table::WAL_SEGMENTS, &labels, log.counters.segments.get());
            families.count(&table::WAL_BYTES, &labels, log.counters.bytes.get());
            families.count(&table::WAL_FRAMES, &labels, log.counters.frames.get());
            families.count(&table::WAL_EVENTS, &labels, log.counters.events.get());
            families.count(&table::WAL_POSITIONS_DROPPED, &labels, log.counters.positions_dropped.get());
        }
    }

    /// What each component has in the dead letter queue, and whether it waits for space there.
    fn letters(&self, families: &mut Families, counters: &ShardCounters, shard: &str) {
        let holders = counters.letter_holders.get();
        let named = |of: &[ComponentLabels], kind: &'static str| {
            of.iter().map(|one| (one.id.to_string(), kind)).collect::<Vec<_>>()
        };
        let pipelines = self.pipelines.iter().map(|name| (name.to_string(), "pipeline"));
        let all = named(&self.inputs, "input").into_iter().chain(pipelines).chain(named(&self.outputs, "output"));
        for (name, kind) in all {
            let holder = holders.iter().find(|holder| (&*holder.name, holder.kind) == (&*name, kind));
            let labels = [&*name, kind, self.type_of(kind, &name), shard];
            families.count(&table::LETTERS_HELD, &labels, holder.map_or(0, |holder| holder.bytes));
            let since = holder.and_then(|holder| holder.waits.as_ref()).map_or(0, |waits| waits.since.0);
            families.add(&table::LETTERS_WAIT, &labels, age_seconds(since));
        }
    }

    fn pipelines(&self, families: &mut Families) {
        /// The reasons for which a pipeline discards.
        const REASONS: [Discard; 5] =
            [Discard::Filtered, Discard::Unparsed, Discard::Aggregated, Discard::Throttled, Discard::DeadLettersFull];
        for (shard, pipelines) in self.meters.pipelines.iter().enumerate() {
            let shard = shard.to_string();
            for (name, counters) in self.pipelines.iter().zip(&**pipelines) {
                let labels = [&**name, "pipeline", "", &shard];
                let dead = counters.dead_lettered_events.get();
                let stopped = counters.discarded.total() + dead;
                families.by_reason(&table::DEAD_LETTERED, labels, "transform", dead);
                for reason in REASONS {
                    families.by_reason(&table::DISCARDED, labels, reason.name(), counters.discarded.get(reason));
                }
                let failures = counters.failures.get();
                let received = counters.received_events.get();
                let made = counters.made_events.get();
                families.count(&table::SENT, &labels, (received + made).saturating_sub(stopped));
                families.count(&table::RECEIVED, &labels, received);
                families.count(&table::PIPELINE_FAILURES, &labels, failures);
                families.count(&table::PIPELINE_MADE, &labels, made);
                families.count(&table::PIPELINE_HELD, &labels, counters.held_events.get());
            }
        }
    }

    fn inputs(&self, families: &mut Families) {
        for meter in &self.meters.inputs {
            let component = &self.inputs[meter.input];
            let shard = meter.shard.to_string();
            let labels = labels_of(component, "input", &shard);
            let counters = &meter.counters;
            let lanes = Lanes::sum(meter.lanes.iter().map(|lane| lane.counters()));
            families.count(&table::SENT, &labels, lanes.taken.saturating_sub(lanes.stopped()));
            families.by_reason(&table::DEAD_LETTERED, labels, "parse", lanes.dead_lettered);
            families.by_reason(&table::DISCARDED, labels, Discard::DeadLettersFull.name(), lanes.letterless);
            for reason in [Discard::RingFull, Discard::LineTooLong] {
                let at_the_ring = if reason == Discard::RingFull { lanes.dropped } else { 0 };
                let events = counters.discarded.get(reason) + at_the_ring;
                families.by_reason(&table::DISCARDED, labels, reason.name(), events);
            }
            families.count(&table::RECEIVED, &labels, counters.received_events.get());
            families.count(&table::RECEIVED_BYTES, &labels, counters.received_bytes.get());
            families.count(&table::ERRORS, &labels, counters.errors.get() + lanes.breaches);
            families.count(&table::RING_FILL, &labels, lanes.fill);
            families.count(&table::RING_EVENTS, &labels, lanes.waiting);
            families.count(&table::RING_FULL, &labels, lanes.full);
            families.count(&table::TRUNCATED, &labels, counters.truncated_events.get());
            families.count(&table::REPLACED, &labels, lanes.replaced);
            families.count(&table::UNPARSED, &labels, lanes.unparsed);
            families.count(&table::FILE_UNREAD, &labels, counters.unread_bytes.get());
            families.count(&table::FILE_UNREAD_DELETED, &labels, counters.unread_deleted_bytes.get());
            families.count(&table::FILES, &labels, counters.files.get());
            families.count(&table::LINKS_SKIPPED, &labels, counters.links_skipped.get());
            families.count(&table::FILES_WAITING, &labels, counters.files_waiting.get());
            families.count(&table::FILES_HANGING, &labels, counters.files_hanging.get());
            for reason in Lost::ALL {
                let bytes = counters.lost_bytes[reason as usize].get();
                families.by_reason(&table::LOST, labels, reason.name(), bytes);
            }
        }
    }

    fn process(&self, families: &mut Families) {
        for (index, pulse) in (self.pulses)().iter().enumerate() {
            families.count(&table::STALLS, &[&index.to_string()], pulse.stalls);
        }
        families.count(&table::LOG_LINES_DROPPED, &[], (self.log_dropped)());
        families.add(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    }
}

/// The summed counts of an input's lanes.
#[derive(Default)]
struct Lanes {
    dropped: u64,
    taken: u64,
    fill: u64,
    full: u64,
    waiting: u64,
    replaced: u64,
    unparsed: u64,
    dead_lettered: u64,
    letterless: u64,
    breaches: u64,
}

impl Lanes {
    fn sum<'a>(lanes: impl Iterator<Item = &'a LaneCounters>) -> Lanes {
        lanes.fold(Lanes::default(), |mut sum, lane| {
            sum.dropped += lane.dropped_events.get();
            sum.taken += lane.taken_events.get();
            sum.fill += lane.sent_bytes.get().saturating_sub(lane.taken_bytes.get());
            sum.full += lane.full.get();
            sum.waiting += lane.sent_events.get().saturating_sub(lane.taken_events.get());
            sum.replaced += lane.replaced_events.get();
            sum.unparsed += lane.unparsed_events.get();
            sum.dead_lettered += lane.dead_lettered_events.get();
            sum.letterless += lane.dlq_full_events.get();
            sum.breaches += lane.breaches.get();
            sum
        })
    }

    /// Events that did not reach the pipelines.
    fn stopped(&self) -> u64 {
        self.dropped + self.dead_lettered + self.letterless
    }
}

fn labels_of<'a>(component: &'a ComponentLabels, kind: &'a str, shard: &'a str) -> [&'a str; 4] {
    [&component.id, kind, component.kind, shard]
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn age_seconds(since: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64);
    if since == 0 { 0.0 } else { (now - since).max(0) as f64 / 1e9 }
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).unwrap_or(u16::MAX))
}
