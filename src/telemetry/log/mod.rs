//! The application log on standard error: readable lines on a terminal, JSON objects otherwise.
//!
//! Guarantees: logging never waits for the terminal or the disk: lines go through a bounded queue to one thread, and lines that
//! do not fit are dropped and counted. Repeated lines (from the same place in the code, for the same component) are suppressed
//! after the first few in a window, and a summary says how many. Queued lines are written before the process ends. Does not
//! rotate files and does not send lines anywhere: the service manager or another pipeline does that.

mod form;
mod repeats;

use form::{Form, Line};
use repeats::{Admission, Key, Repeats, Summary};
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The most lines that wait for the writer; each has at most [`form::LINE_BYTES_MAX`] bytes.
const QUEUE_LINES: usize = 1024;
/// How often the writer checks for windows that have ended, while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// How long the process waits at its end for a standard error that accepts nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The options of the application log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The least severe level that is written.
    pub level: tracing::Level,
    /// JSON or text; `None` means text on a terminal and JSON otherwise.
    pub json: Option<bool>,
}

/// The environment variable that overrides the configured level: `debug`, or `info,tailwater_shards=trace`.
pub const LEVEL_VARIABLE: &str = "TAILWATER_LOG";

/// The target of lines that are different each time, such as the warnings of a configuration: none of them is suppressed.
pub const SAID_ONCE: &str = "tailwater::configuration";

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The value of the variable is invalid.
    #[error(
        "{LEVEL_VARIABLE} is set to `{0}`, which is not a level such as `debug` or a list such as `info,tailwater_shards=trace`"
    )]
    Filter(String),
    /// The thread cannot be started.
    #[error("the thread that writes the log cannot be started: {0}")]
    Thread(io::Error),
    /// The log was already started.
    #[error("the log was already started in this process")]
    Started,
}

/// What the log counts about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Lines that did not fit into the queue.
    pub lines_dropped: u64,
    /// Lines that were suppressed as repeated.
    pub lines_suppressed: u64,
}

/// The running log. Dropping it writes the queued lines.
pub struct ApplicationLog {
    shared: Arc<Shared>,
    lines: SyncSender<Message>,
    ended: Receiver<()>,
    writer: Option<JoinHandle<()>>,
}

/// Reads the counts of the log from any thread.
#[derive(Clone)]
pub struct LogCounter(Arc<Shared>);

impl LogCounter {
    /// The current counts.
    pub fn get(&self) -> LogCounts {
        self.0.lock().counts
    }
}

/// Starts the application log of the process.
pub fn start(options: LogOptions) -> Result<ApplicationLog, LogError> {
    let variable = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
    let filter = filter(options.level, &variable)?;
    let json = options.json.unwrap_or_else(|| !io::stderr().is_terminal());
    let (layer, log) = layer(if json { Form::Json } else { Form::Text }, Box::new(io::stderr()))?;
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().map_err(|_| LogError::Started)?;
    Ok(log)
}

fn filter(level: tracing::Level, variable: &str) -> Result<EnvFilter, LogError> {
    let builder = EnvFilter::builder().with_default_directive(level.into());
    builder.parse(variable.trim()).map_err(|_| LogError::Filter(variable.to_owned()))
}

fn layer(form: Form, sink: Box<dyn Write + Send>) -> Result<(LogLayer, ApplicationLog), LogError> {
    let (lines, queue) = sync_channel(QUEUE_LINES);
    let (end, ended) = sync_channel(1);
    let shared = Arc::new(Shared { started: Instant::now(), state: Mutex::new(State::default()) });
    let writer = Writer { queue, sink, form, shared: shared.clone(), swept: Instant::now(), reported: 0 };
    let thread = std::thread::Builder::new().name("own-log".to_owned());
    let writer = thread
        .spawn(move || {
            writer.run();
            let _ = end.send(());
        })
        .map_err(LogError::Thread)?;
    let layer = LogLayer { form, lines: lines.clone(), shared: shared.clone() };
    Ok((layer, ApplicationLog { shared, lines, ended, writer: Some(writer) }))
}

impl ApplicationLog {
    /// What the log counts about itself, for metrics.
    pub fn counter(&self) -> LogCounter {
        LogCounter(self.shared.clone())
    }
}

impl Drop for ApplicationLog {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        // If the queue is full, the writer is awake anyway.
        let _ = self.lines.try_send(Message::Wake);
        if self.ended.recv_timeout(FLUSH_TIMEOUT).is_ok()
            && let Some(writer) = self.writer.take()
        {
            let _ = writer.join();
        }
    }
}

enum Message {
    Line(String),
    Wake,
}

struct Shared {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    repeats: Repeats,
    counts: LogCounts,
    ending: bool,
}

impl Shared {
    /// Held only while looking into a small map, never during a write.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LogLayer {
    form: Form,
    lines: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let line = Line::read(event);
        let key = Key::of(metadata, line.component());
        let now = self.shared.started.elapsed();
        if metadata.target() == SAID_ONCE {
            return self.send(line.render(self.form));
        }
        let admission = {
            let mut state = self.shared.lock();
            let admission = state.repeats.admit(key, metadata, line.component(), now);
            state.counts.lines_suppressed += u64::from(matches!(admission, Admission::Suppressed));
            admission
        };
        match admission {
            Admission::Suppressed => {}
            Admission::Written(summary) => {
                if let Some(summary) = summary {
                    self.send(summary_line(&summary).render(self.form));
                }
                self.send(line.render(self.form));
            }
        }
    }
}

impl LogLayer {
    fn send(&self, line: String) {
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.shared.lock().counts.lines_dropped += 1;
        }
    }
}

fn summary_line(summary: &Summary) -> Line {
    let text = format!("suppressed {} similar lines", summary.lines);
    let mut line = Line::own(summary.level, summary.target, text);
    if !summary.component.is_empty() {
        line.push("component_id", summary.component.clone().into());
    }
    line.push("similar_to", format!("{}:{}", summary.file, summary.line).into());
    line
}

struct Writer {
    queue: Receiver<Message>,
    sink: Box<dyn Write + Send>,
    form: Form,
    shared: Arc<Shared>,
    swept: Instant,
    /// How many dropped lines a summary has already reported.
    reported: u64,
}

impl Writer {
    fn run(mut self) {
        loop {
            // A line opens a window before it is sent, so without a window there is nothing to report until the next line.
            let watching = self.shared.lock().repeats.is_watching();
            let received = match watching {
                true => self.queue.recv_timeout(SWEEP_INTERVAL),
                false => self.queue.recv().map_err(RecvTimeoutError::from),
            };
            match received {
                Ok(message) => self.write(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.drain();
            let ending = self.shared.lock().ending;
            if ending {
                break;
            }
            if self.swept.elapsed() >= SWEEP_INTERVAL {
                let now = self.shared.started.elapsed();
                self.sweep(Some(now));
            }
        }
        self.drain();
        self.sweep(None);
        let _ = self.sink.flush();
    }

    fn drain(&mut self) {
        loop {
            match self.queue.try_recv() {
                Ok(message) => self.write(message),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, message: Message) {
        if let Message::Line(line) = message {
            // If writing to standard error fails, there is nowhere to report it.
            let _ = self.sink.write_all(line.as_bytes());
        }
    }

    /// Writes the summaries of windows that have ended; without a time, of all windows.
    fn sweep(&mut self, now: Option<Duration>) {
        self.swept = Instant::now();
        let (summaries, dropped) = {
            let mut state = self.shared.lock();
            (state.repeats.sweep(now), state.counts.lines_dropped)
        };
        for summary in &summaries {
            let line = summary_line(summary).render(self.form);
            self.write(Message::Line(line));
        }
        if dropped > self.reported {
            let text = format!("dropped {} lines of this log: standard error was too slow", dropped - self.reported);
            self.reported = dropped;
            let line = Line::own(tracing::Level::WARN, module_path!(), text).render(self.form);
            self.write(Message::Line(line));
        }
    }
}

#[cfg(test)]
mod tests;
