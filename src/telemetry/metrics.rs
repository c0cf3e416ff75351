//! Metrics: the one table of their names, and the Prometheus text made of the engine's counters.
//!
//! Guarantees: a scrape reads counters and takes no lock that a shard waits for; what left is read before what came, so that
//! no scrape shows more delivered than received. Buffered events are what was received or recovered and has neither been
//! delivered, dead-lettered nor discarded. Does not keep history.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tailwater_shards::counters::{Counter as Counted, DeadLettered, Discard, Lost, ShardCounters, Trouble};
use tailwater_shards::engine::Meters;
use tailwater_shards::env::ShardId;
use tailwater_shards::glommio_env::{PulseReading, RealDisk};

/// A component as labels name it.
#[derive(Clone, Debug)]
pub struct ComponentLabels {
    /// Its configured name.
    pub id: Arc<str>,
    /// The value of `type`.
    pub kind: &'static str,
}

/// Makes the text of a scrape.
pub struct Exporter {
    /// What the engine counts.
    pub meters: Arc<Meters<RealDisk>>,
    /// The inputs, in the order of the plan.
    pub inputs: Vec<ComponentLabels>,
    /// The outputs, in the order of the plan.
    pub outputs: Vec<ComponentLabels>,
    /// The names of the pipelines, in the order of the plan.
    pub pipelines: Vec<Arc<str>>,
    /// Outputs that left the configuration, and the events that waited for them.
    pub removed: Vec<(String, u64)>,
    /// The heartbeats of the shards.
    pub pulses: Box<dyn Fn() -> Vec<PulseReading> + Send + Sync>,
    /// Lines of the own log that were dropped.
    pub log_dropped: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// What a run did, over all components of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events cut from sources.
    pub received: u64,
    /// Events that waited in the log at the start, once for each output.
    pub recovered: u64,
    /// Events delivered, once for each output.
    pub delivered: u64,
    /// Events that went to the dead letter queue.
    pub dead_lettered: u64,
    /// Events discarded, for whatever reason.
    pub discarded: u64,
    /// Bytes that vanished before they could be read.
    pub lost_bytes: u64,
}

/// Families of one scrape, in order.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Families {
    fn add(&mut self, name: &str, help: &str, kind: MetricType, labels: Labels<'_>, value: f64) {
        let mut metric = Metric::from_label(labels.iter().map(|(name, value)| label(name, value)).collect());
        if kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        if let Some(family) = self.0.iter_mut().find(|family| family.name() == name) {
            family.mut_metric().push(metric);
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.mut_metric().push(metric);
        self.0.push(family);
    }

    fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: u64) {
        self.add(name, help, MetricType::COUNTER, labels, value as f64);
    }

    fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        self.add(name, help, MetricType::GAUGE, labels, value);
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

const RECEIVED: (&str, &str) =
    ("tailwater_component_received_events_total", "Events cut from the source, or taken over from an earlier life.");
const RECEIVED_BYTES: (&str, &str) = ("tailwater_component_received_bytes_total", "Bytes read from the source.");
const SENT: (&str, &str) = ("tailwater_component_sent_events_total", "Events handed on.");
const SENT_BYTES: (&str, &str) = ("tailwater_component_sent_bytes_total", "Bytes of event lines delivered.");
const DISCARDED: (&str, &str) = ("tailwater_component_discarded_events_total", "Events let go, by reason.");
const DEAD_LETTERED: (&str, &str) =
    ("tailwater_component_dead_lettered_events_total", "Events that went to the dead letter queue, by reason.");
const ERRORS: (&str, &str) = ("tailwater_component_errors_total", "Errors met and reported.");

impl Exporter {
    /// Whether every shard has opened its log.
    pub fn is_ready(&self) -> bool {
        (0..self.meters.shards.len()).all(|shard| self.meters.board.get(shard_id(shard)).is_some())
    }

    /// What is wrong with each output now, a line each.
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
                let error: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                let _ = writeln!(
                    text,
                    "output {}: failing since {moment:.3} on shard {shard}, {attempts} attempts, the last: {error}",
                    component.id
                );
            }
        }
        text
    }

    /// The text of a scrape.
    pub fn text(&self) -> String {
        let mut families = Families::default();
        // Outputs first: see the module.
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

    /// Sums over all components.
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

    /// Events that the output called `id` has delivered.
    pub fn delivered(&self, id: &str) -> u64 {
        let of = self.meters.outputs.iter().filter(|meter| *self.outputs[meter.output].id == *id);
        of.map(|meter| meter.counters.sent_events.get()).sum()
    }

    /// Returns for each output how many of its events have left the log, less those that were there at the start.
    fn outputs(&self, families: &mut Families) -> Vec<i128> {
        let mut passed = vec![0; self.outputs.len()];
        for meter in &self.meters.outputs {
            let component = &self.outputs[meter.output];
            let shard = meter.shard.to_string();
            let labels = labels_of(component, "output", &shard);
            let counters = &meter.counters;
            passed[meter.output] += counters.left();
            families.counter(SENT.0, SENT.1, &labels, counters.sent_events.get());
            families.counter(SENT_BYTES.0, SENT_BYTES.1, &labels, counters.sent_bytes.get());
            for reason in Discard::ALL {
                let sampled = match reason {
                    Discard::WalFull => self.meters.wal_full[meter.shard][usize::from(meter.number.0)].get(reason),
                    _ => 0,
                };
                let events = counters.discarded.get(reason) + sampled;
                discarded(families, &labels, reason.name(), events);
            }
            for reason in DeadLettered::ALL {
                let events = counters.dead_lettered[reason as usize].get();
                by_reason(families, DEAD_LETTERED, &labels, reason.name(), events);
            }
            families.counter(ERRORS.0, ERRORS.1, &labels, counters.errors.get());
            let name = "tailwater_output_recovered_events_total";
            let help = "Events that waited in the log when the process started.";
            families.counter(name, help, &labels, counters.recovered_events.get());
            let name = "tailwater_output_retries_total";
            families.counter(name, "Deliveries tried again.", &labels, counters.retries.get());
            let name = "tailwater_output_commits_total";
            families.counter(name, "Cursor commits.", &labels, counters.commits.get());
            let name = "tailwater_output_oldest_unacked_age_seconds";
            let help = "Age of the oldest event that is not delivered; zero when nothing waits.";
            families.gauge(name, help, &labels, age_seconds(counters.oldest_unacked.get()));
        }
        for (name, events) in &self.removed {
            let labels = [("component_id", name.as_str()), ("component_kind", "output"), ("component_type", "")];
            discarded(families, &labels, Discard::OutputRemoved.name(), *events);
        }
        passed
    }

    /// What waits in the logs for each output: appended and recovered, and neither sent nor discarded.
    fn buffered(&self, families: &mut Families, passed: &[i128]) {
        for (output, (component, passed)) in self.outputs.iter().zip(passed).enumerate() {
            let Some(meter) = self.meters.outputs.iter().find(|meter| meter.output == output) else { continue };
            let logs = (0..self.meters.shards.len()).filter_map(|shard| self.meters.board.get(shard_id(shard)));
            let appended: u64 = logs.map(|log| log.appended(meter.number)).sum();
            let waiting = (i128::from(appended) - passed).max(0);
            let labels =
                [("component_id", &*component.id), ("component_kind", "output"), ("component_type", component.kind)];
            let name = "tailwater_output_buffered_events";
            families.gauge(name, "Events in the logs that wait for the output.", &labels, waiting as f64);
        }
    }

    fn logs(&self, families: &mut Families) {
        for (index, counters) in self.meters.shards.iter().enumerate() {
            let shard = index.to_string();
            let labels = [("shard", shard.as_str())];
            let name = "tailwater_wal_sync_seconds_total";
            families.add(
                name,
                "Time spent in syncs.",
                MetricType::COUNTER,
                &labels,
                seconds(counters.sync_nanos.get()),
            );
            families.counter("tailwater_wal_syncs_total", "Syncs that succeeded.", &labels, counters.syncs.get());
            let name = "tailwater_wal_full_total";
            families.counter(name, "Times the intake waited for a full log.", &labels, counters.wal_full.get());
            dead_letters(families, &labels, counters);
            let name = "tailwater_plugin_panics_total";
            families.counter(name, "Plugins started again after a panic.", &labels, counters.plugin_panics.get());
            let Some(log) = self.meters.board.get(shard_id(index)) else { continue };
            let name = "tailwater_wal_disk_bytes";
            families.gauge(name, "Bytes of segments, ready ones included.", &labels, log.disk_bytes() as f64);
            let name = "tailwater_wal_segments";
            families.gauge(name, "Segments that hold frames.", &labels, log.counters.segments.get() as f64);
            let name = "tailwater_wal_appended_bytes_total";
            families.counter(name, "Bytes of frames appended.", &labels, log.counters.bytes.get());
            let name = "tailwater_wal_appended_frames_total";
            families.counter(name, "Frames appended.", &labels, log.counters.frames.get());
            let name = "tailwater_wal_appended_events_total";
            families.counter(name, "Events appended.", &labels, log.counters.events.get());
        }
    }

    fn pipelines(&self, families: &mut Families) {
        for (shard, pipelines) in self.meters.pipelines.iter().enumerate() {
            let shard = shard.to_string();
            for (name, counters) in self.pipelines.iter().zip(&**pipelines) {
                let labels = [("component_id", &**name), ("component_kind", "pipeline"), ("shard", &shard)];
                let dead = counters.dead_lettered_events.get();
                let let_go = counters.discarded.total() + dead;
                by_reason(families, DEAD_LETTERED, &labels, "transform", dead);
                for reason in [
                    Discard::Filtered,
                    Discard::Unparsed,
                    Discard::Oversized,
                    Discard::Aggregated,
                    Discard::DeadLettersFull,
                ] {
                    discarded(families, &labels, reason.name(), counters.discarded.get(reason));
                }
                let failures = counters.failures.get();
                let received = counters.received_events.get();
                let made = counters.made_events.get();
                families.counter(SENT.0, SENT.1, &labels, (received + made).saturating_sub(let_go));
                families.counter(RECEIVED.0, RECEIVED.1, &labels, received);
                let name = "tailwater_pipeline_failures_total";
                let help = "Times that a transform or a condition could not do its work on an event.";
                families.counter(name, help, &labels, failures);
                let name = "tailwater_pipeline_made_events_total";
                families.counter(name, "Events that transforms made of others.", &labels, made);
                let name = "tailwater_pipeline_held_events";
                let help = "Events counted in aggregates that are not made yet.";
                families.gauge(name, help, &labels, counters.held_events.get() as f64);
            }
        }
    }

    fn inputs(&self, families: &mut Families) {
        for meter in &self.meters.inputs {
            let component = &self.inputs[meter.input];
            let shard = meter.shard.to_string();
            let labels = labels_of(component, "input", &shard);
            let counters = &meter.counters;
            let lanes = meter.lanes.iter().map(|lane| lane.counters());
            let mut waiting = 0;
            let (mut dropped, mut taken, mut fill, mut full) = (0u64, 0u64, 0u64, 0u64);
            let (mut replaced, mut unparsed, mut unread, mut letterless) = (0u64, 0u64, 0u64, 0u64);
            for lane in lanes {
                dropped += lane.dropped_events.get();
                taken += lane.taken_events.get();
                fill += lane.sent_bytes.get().saturating_sub(lane.taken_bytes.get());
                full += lane.full.get();
                waiting += lane.sent_events.get().saturating_sub(lane.taken_events.get());
                replaced += lane.replaced_events.get();
                unparsed += lane.unparsed_events.get();
                unread += lane.dead_lettered_events.get();
                letterless += lane.dlq_full_events.get();
            }
            families.counter(SENT.0, SENT.1, &labels, taken.saturating_sub(dropped + unread + letterless));
            by_reason(families, DEAD_LETTERED, &labels, "parse", unread);
            discarded(families, &labels, Discard::DeadLettersFull.name(), letterless);
            for reason in [Discard::RingFull, Discard::LineTooLong] {
                let at_the_ring = if reason == Discard::RingFull { dropped } else { 0 };
                discarded(families, &labels, reason.name(), counters.discarded.get(reason) + at_the_ring);
            }
            families.counter(RECEIVED.0, RECEIVED.1, &labels, counters.received_events.get());
            families.counter(RECEIVED_BYTES.0, RECEIVED_BYTES.1, &labels, counters.received_bytes.get());
            let breaches: u64 = meter.lanes.iter().map(|lane| lane.counters().breaches.get()).sum();
            families.counter(ERRORS.0, ERRORS.1, &labels, counters.errors.get() + breaches);
            let name = "tailwater_ring_fill_bytes";
            families.gauge(name, "Bytes of chunks on their way to the log.", &labels, fill as f64);
            families.gauge("tailwater_ring_events", "Events on their way to the log.", &labels, waiting as f64);
            families.counter("tailwater_ring_full_total", "Times the ring was found full.", &labels, full);
            let name = "tailwater_input_truncated_events_total";
            families.counter(name, "Events cut short.", &labels, counters.truncated_events.get());
            let name = "tailwater_input_replaced_events_total";
            families.counter(name, "Events in which bytes that are no UTF-8 were replaced.", &labels, replaced);
            let name = "tailwater_input_unparsed_events_total";
            families.counter(name, "Events that could not be parsed.", &labels, unparsed);
            let name = "tailwater_file_unread_bytes";
            families.gauge(name, "Bytes in followed files not yet read.", &labels, counters.unread_bytes.get() as f64);
            families.gauge("tailwater_files", "Files being followed.", &labels, counters.files.get() as f64);
            for reason in Lost::ALL {
                let mut labels = labels.to_vec();
                labels.push(("reason", reason.name()));
                let name = "tailwater_lost_bytes_total";
                let help = "Bytes that vanished from a source before they could be read.";
                families.counter(name, help, &labels, counters.lost_bytes[reason as usize].get());
            }
        }
    }

    fn process(&self, families: &mut Families) {
        for (index, pulse) in (self.pulses)().iter().enumerate() {
            let shard = index.to_string();
            let labels = [("shard", shard.as_str())];
            let name = "tailwater_shard_stalls_total";
            families.counter(name, "Times a shard was found not to move.", &labels, pulse.stalls);
        }
        let name = "tailwater_log_lines_dropped_total";
        families.counter(name, "Lines of the own log that were dropped.", &[], (self.log_dropped)());
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        families.gauge("tailwater_build_info", "The version that runs.", &version, 1.0);
    }
}

fn labels_of<'a>(component: &'a ComponentLabels, kind: &'a str, shard: &'a str) -> [(&'a str, &'a str); 4] {
    [("component_id", &component.id), ("component_kind", kind), ("component_type", component.kind), ("shard", shard)]
}

fn discarded(families: &mut Families, labels: Labels<'_>, reason: &str, events: u64) {
    by_reason(families, DISCARDED, labels, reason, events);
}

fn by_reason(families: &mut Families, family: (&str, &str), labels: Labels<'_>, reason: &str, events: u64) {
    let mut labels = labels.to_vec();
    labels.push(("reason", reason));
    families.counter(family.0, family.1, &labels, events);
}

/// The dead letter queue of one shard.
fn dead_letters(families: &mut Families, labels: Labels<'_>, counters: &ShardCounters) {
    let name = "tailwater_dlq_letters_total";
    families.counter(name, "Dead letters stored.", labels, counters.dead_letters.get());
    let name = "tailwater_dlq_dropped_letters_total";
    let help = "Dead letters that a full queue had no room for, or that went to make room.";
    families.counter(name, help, labels, counters.dead_letters_dropped.get());
    let name = "tailwater_dlq_full_total";
    families.counter(name, "Times a dead letter waited for room.", labels, counters.dead_letters_full.get());
    let name = "tailwater_dlq_bytes";
    families.gauge(name, "Bytes of dead letters on disk.", labels, counters.dead_letter_bytes.get() as f64);
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
