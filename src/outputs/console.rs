//! The `console` output: writes events to standard output, one per line.
//!
//! Guarantees: lines are written whole and in the order of the WAL. A slow reader stops only this output, because writing
//! happens outside the executor. If the reader is gone, the process ends, because nothing written later could reach anyone.
//! After a write that failed halfway, the bytes that were written may be written again. On a terminal, nothing in an event can
//! control it: see [`crate::codec::visible`]. A pipe or a file receives the bytes unchanged.

use super::encoding::{Encoding, message_field, output_full};
use super::letters::DeadLetters;
use crate::codec::visible::visible_in_pieces;
use crate::config::component::{Component, Facts, Mistake, OutputSettings};
use crate::config::types::{Batching, Encode, Newlines, Retry, TextForm, WhenFull, WithoutMessage};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::dlq;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::{
    Delivery, LocalFuture, OpenResult, Outcome, Output, OutputContext, OutputSpec, Placement, Resume,
};

/// The settings of the output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How an event is encoded.
    pub encode: Encode,
    /// With `encode: text`, the field that holds the message.
    pub message_field: String,
    /// With `encode: text`, what happens to newlines inside a message.
    pub newlines: Newlines,
    /// With `encode: text`, what happens to an event without a message.
    pub without_message: WithoutMessage,
    /// How deliveries are grouped.
    pub batch: Batching,
    /// How failed deliveries are retried.
    pub retry: Retry,
    /// What happens to its events if the WAL is full because of this output.
    pub when_full: WhenFull,
    /// What happens to its dead letters beyond its share of the queue.
    pub dead_letters: DeadLetters,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            encode: Encode::default(),
            message_field: message_field(),
            newlines: Newlines::default(),
            without_message: WithoutMessage::default(),
            batch: Batching::default(),
            retry: Retry::default(),
            when_full: WhenFull::default(),
            dead_letters: DeadLetters::default(),
        }
    }
}

impl Component for Settings {
    const NAME: &'static str = "console";
    const SUMMARY: &'static str = "Writes events to standard output, one per line.";
    const EXAMPLE: &'static str = "type: console\nencode: json\n";

    fn check(&self) -> Vec<Mistake> {
        self.dead_letters.check()
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, _: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        let form = TextForm { field: &self.message_field, newlines: self.newlines, without: self.without_message };
        let encoding = Encoding::new(self.encode, &form);
        let (target, terminal) = (Arc::new(Mutex::new(io::stdout())), io::stdout().is_terminal());
        self.dead_letters.of(Arc::new(Spec { encoding, target, terminal, writing: Arc::default() }))
    }

    fn batching(&self) -> Batching {
        self.batch
    }

    fn retry(&self) -> Retry {
        self.retry
    }

    fn when_full(&self) -> OutputFull {
        output_full(self.when_full)
    }

    fn letters_full(&self) -> Option<dlq::WhenFull> {
        self.dead_letters.full()
    }

    fn held_bytes_max(&self) -> u64 {
        // The encoded delivery.
        self.batch.max_bytes.0
    }

    fn descriptors_max(&self) -> u64 {
        0
    }
}

/// Where lines are written. Locked only where blocking is allowed.
type Target = Arc<Mutex<dyn Write + Send>>;

struct Spec {
    encoding: Encoding,
    target: Target,
    /// Whether the target is a terminal.
    terminal: bool,
    /// A write in progress holds its own handle.
    writing: Arc<()>,
}

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, context: OutputContext<E>, _: Resume) -> LocalFuture<'static, OpenResult> {
        let (encoding, terminal) = (self.encoding.clone(), self.terminal);
        let (target, writing) = (self.target.clone(), self.writing.clone());
        Box::pin(async move {
            // A write of an earlier instance that still blocks holds a third handle and a blocking thread. There is at most
            // one such write.
            while Arc::strong_count(&writing) > ATTACHED {
                context.env.sleep(ATTACH_INTERVAL).await;
            }
            Ok(Box::new(Console { context, encoding, target, terminal, writing, buffer: Vec::new() })
                as Box<dyn Output>)
        })
    }
}

/// Handles on `writing` when a console is opened and no write is in progress: that of the spec and the new one.
const ATTACHED: usize = 2;

/// How often a write that still blocks is checked.
const ATTACH_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

struct Console<E: Env> {
    context: OutputContext<E>,
    encoding: Encoding,
    target: Target,
    /// Whether the target is a terminal.
    terminal: bool,
    writing: Arc<()>,
    buffer: Vec<u8>,
}

impl<E: Env> Output for Console<E> {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(async move {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            let mut refused = Vec::new();
            self.encoding.delivery(delivery, &mut buffer, &mut refused);
            let (target, writing) = (self.target.clone(), self.writing.clone());
            let terminal = self.terminal.then_some(matches!(self.encoding, Encoding::Json));
            let written = self.context.env.blocking(move || {
                let _writing = writing;
                let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
                let result = match terminal {
                    Some(json) => visible_in_pieces(&buffer, json, |piece| write_whole(&mut *target, piece.as_bytes())),
                    None => write_whole(&mut *target, &buffer),
                };
                (buffer, result)
            });
            let (buffer, result) = written.await;
            self.buffer = buffer;
            match result {
                Ok(()) if refused.is_empty() => Outcome::Delivered,
                Ok(()) => Outcome::Rejected(refused),
                Err(error) => self.failed(&error),
            }
        })
    }
}

impl<E: Env> Console<E> {
    fn failed(&self, error: &io::Error) -> Outcome {
        let name = &self.context.name;
        let message = match error.kind() {
            ErrorKind::BrokenPipe => {
                format!(
                    "output {name}: the reader of standard output is gone; undelivered events stay in the write-ahead log"
                )
            }
            _ => format!("output {name}: standard output cannot be written: {error}; retrying"),
        };
        if error.kind() == ErrorKind::BrokenPipe {
            self.context.stop.fail(message.clone());
        }
        Outcome::Retry { after: None, error: message }
    }
}

/// Writes all of `bytes`. Another program may have made the terminal non-blocking: then this waits and continues.
#[expect(
    clippy::disallowed_methods,
    reason = "runs where blocking is allowed, and there is no event for a terminal that is ready again"
)]
fn write_whole(target: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(WOULD_BLOCK_PAUSE),
            Err(error) => return Err(error),
        }
    }
    target.flush()
}

/// How long a blocking thread waits before it retries on a non-blocking terminal.
const WOULD_BLOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::super::encoding::testing::delivery;
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;
    use tailwater_shards::env::ShardId;
    use tailwater_shards::sim::{SimEnv, Simulation};
    use tailwater_shards::stop::Phase;
    use tailwater_shards::wal::OutputNumber;

    /// Accepts few bytes at a time, and fails as configured.
    #[derive(Default)]
    struct Terminal {
        written: Vec<u8>,
        failures: Vec<ErrorKind>,
        calls: usize,
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if let Some(kind) = self.failures.pop() {
                return Err(kind.into());
            }
            let count = bytes.len().min(64 * 1024);
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn context(env: SimEnv) -> OutputContext<SimEnv> {
        OutputContext {
            env,
            name: "out".into(),
            number: OutputNumber(0),
            data_dir: Arc::new("/data".into()),
            state_bytes_max: tailwater_shards::limits::COMMIT_STATE_BYTES_MAX,
            stop: Default::default(),
            counters: Default::default(),
        }
    }

    /// Delivers `lines` once. Returns the outcome, and the phase of the engine.
    fn deliver(encoding: Encoding, target: &Arc<Mutex<Terminal>>, lines: Vec<String>) -> (Outcome, Phase) {
        deliver_to(encoding, target, false, lines)
    }

    fn deliver_to(
        encoding: Encoding,
        target: &Arc<Mutex<Terminal>>,
        terminal: bool,
        lines: Vec<String>,
    ) -> (Outcome, Phase) {
        let mut simulation = Simulation::new(1);
        let context = context(simulation.env(ShardId(0)));
        let spec = Spec { encoding, target: target.clone(), terminal, writing: Arc::default() };
        let outcome = Rc::new(RefCell::new(None));
        let (result, stop, env) = (outcome.clone(), context.stop.clone(), context.env.clone());
        env.spawn("test", async move {
            let mut output = OutputSpec::open(&spec, context, Resume::whole(Vec::new())).await.expect("it opens");
            let delivery = delivery(&lines, 1);
            *result.borrow_mut() = Some(output.deliver(&delivery).await);
        });
        simulation.must("the delivery ends", || outcome.borrow().is_some(), Duration::from_secs(10));
        let outcome = outcome.borrow_mut().take().expect("it ended");
        (outcome, stop.phase())
    }

    #[test]
    fn delivery_is_written_whole_in_few_writes() {
        let target = Arc::new(Mutex::new(Terminal::default()));
        let lines: Vec<String> = (0..10_000).map(|n| format!("{{\"message\":\"line {n}\"}}\n")).collect();
        let (outcome, phase) = deliver(Encoding::Json, &target, lines.clone());
        assert!(matches!(outcome, Outcome::Delivered));
        assert_eq!(phase, Phase::Running);
        let terminal = target.lock().expect("no panic");
        assert_eq!(terminal.written, lines.concat().into_bytes());
        assert!(terminal.calls <= 5, "{} calls", terminal.calls);
    }

    #[test]
    fn text_encoding_writes_only_the_message() {
        let target = Arc::new(Mutex::new(Terminal::default()));
        let encoding = Encoding::new(
            Encode::Text,
            &TextForm { field: "m", newlines: Newlines::Escape, without: WithoutMessage::Json },
        );
        deliver(encoding, &target, vec!["{\"a\":1,\"m\":\"x\\ty\"}\n".to_owned(), "{\"a\":2}\n".to_owned()]);
        assert_eq!(target.lock().expect("no panic").written, b"x\ty\n{\"a\":2}\n");
    }

    #[test]
    fn events_cannot_control_a_terminal_and_a_pipe_gets_them_unchanged() {
        let json = "{\"m\":\"a\u{9b}2J\u{202e}b\u{7f}\"}\n";
        let escaped = "{\"m\":\"\\u001b]0;owned\\u0007\"}\n";
        let text =
            |newlines| Encoding::new(Encode::Text, &TextForm { field: "m", newlines, without: WithoutMessage::Json });
        for (encoding, terminal, written) in [
            (Encoding::Json, false, format!("{json}{escaped}")),
            (Encoding::Json, true, format!("{{\"m\":\"a\\u009b2J\\u202eb\\u007f\"}}\n{escaped}")),
            (text(Newlines::Keep), false, "a\u{9b}2J\u{202e}b\u{7f}\n\u{1b}]0;owned\u{7}\n".to_owned()),
            (text(Newlines::Keep), true, "a\\u{9b}2J\\u{202e}b\\u{7f}\n\\u{1b}]0;owned\\u{7}\n".to_owned()),
        ] {
            let target = Arc::new(Mutex::new(Terminal::default()));
            deliver_to(encoding, &target, terminal, vec![json.to_owned(), escaped.to_owned()]);
            let bytes = target.lock().expect("no panic").written.clone();
            assert_eq!(String::from_utf8(bytes).expect("UTF-8"), written, "{terminal}");
        }
    }

    #[test]
    fn interrupted_and_not_ready_terminals_are_waited_for() {
        let failures = vec![ErrorKind::WouldBlock, ErrorKind::Interrupted];
        let target = Arc::new(Mutex::new(Terminal { failures, ..Terminal::default() }));
        let (outcome, _) = deliver(Encoding::Json, &target, vec!["{}\n".to_owned()]);
        assert!(matches!(outcome, Outcome::Delivered));
        assert_eq!(target.lock().expect("no panic").written, b"{}\n");
    }

    #[test]
    fn missing_reader_ends_the_engine() {
        let target = Arc::new(Mutex::new(Terminal { failures: vec![ErrorKind::BrokenPipe], ..Terminal::default() }));
        let (outcome, phase) = deliver(Encoding::Json, &target, vec!["{}\n".to_owned()]);
        assert!(
            matches!(outcome, Outcome::Retry { error, .. } if error.contains("the reader of standard output is gone"))
        );
        assert_eq!(phase, Phase::Forced);
    }

    #[test]
    fn other_errors_are_retried() {
        let target = Arc::new(Mutex::new(Terminal { failures: vec![ErrorKind::Other], ..Terminal::default() }));
        let (outcome, phase) = deliver(Encoding::Json, &target, vec!["{}\n".to_owned()]);
        assert!(matches!(outcome, Outcome::Retry { .. }));
        assert_eq!(phase, Phase::Running);
    }
}
