//! Output `console`: events on standard output, a line each.
//!
//! Guarantees: lines come whole and in the order of the log; a reader that is slow stops this output and nothing else, since
//! writing happens off the executor. A reader that is gone ends the process: nothing written later could reach anyone. What
//! was written when a write failed half-way may be written again.

use super::encoding::{Encoding, message_field, output_full};
use crate::config::component::{Component, Facts, Mistake, OutputSettings};
use crate::config::types::{Batching, Encode, Newlines, Retry, TextForm, WhenFull, WithoutMessage};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::env::Env;
use tailwater_shards::plugin::{
    Delivery, LocalFuture, OpenResult, Outcome, Output, OutputContext, OutputSpec, Placement, Resume,
};

/// Settings of an output `console`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How an event is written.
    pub encode: Encode,
    /// With `encode: text`, the field that holds the message.
    pub message_field: String,
    /// With `encode: text`, what becomes of newlines inside a message.
    pub newlines: Newlines,
    /// With `encode: text`, what becomes of an event that has no message.
    pub without_message: WithoutMessage,
    /// How deliveries are grouped.
    pub batch: Batching,
    /// How failed deliveries are tried again.
    pub retry: Retry,
    /// What happens to its events when the log is full because of it.
    pub when_full: WhenFull,
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
        }
    }
}

impl Component for Settings {
    const NAME: &'static str = "console";
    const SUMMARY: &'static str = "Writes events to standard output, a line each.";
    const EXAMPLE: &'static str = "type: console\nencode: json\n";

    fn check(&self) -> Vec<Mistake> {
        Vec::new()
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, _: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        let form = TextForm { field: &self.message_field, newlines: self.newlines, without: self.without_message };
        let encoding = Encoding::new(self.encode, &form);
        Arc::new(Spec { encoding, target: Arc::new(Mutex::new(io::stdout())), writing: Arc::default() })
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

    fn held_bytes_max(&self) -> u64 {
        // The delivery as it is written.
        self.batch.max_bytes.0
    }

    fn descriptors_max(&self) -> u64 {
        0
    }
}

/// Where lines go. Locked only where blocking is allowed.
type Target = Arc<Mutex<dyn Write + Send>>;

struct Spec {
    encoding: Encoding,
    target: Target,
    /// A write under way has a handle of its own.
    writing: Arc<()>,
}

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, context: OutputContext<E>, _: Resume) -> LocalFuture<'static, OpenResult> {
        let (encoding, target, writing) = (self.encoding.clone(), self.target.clone(), self.writing.clone());
        Box::pin(async move {
            // A write of an earlier instance that still hangs holds a third handle, and a thread that may block: there is one
            // such write at a time.
            while Arc::strong_count(&writing) > ATTACHED {
                context.env.sleep(ATTACH_INTERVAL).await;
            }
            Ok(Box::new(Console { context, encoding, target, writing, buffer: Vec::new() }) as Box<dyn Output>)
        })
    }
}

/// Handles on `writing` while a console is opened and nothing is written: the spec's and its own.
const ATTACHED: usize = 2;

/// How often an earlier write that hangs is looked at.
const ATTACH_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

struct Console<E: Env> {
    context: OutputContext<E>,
    encoding: Encoding,
    target: Target,
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
            let written = self.context.env.blocking(move || {
                let _writing = writing;
                let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
                let result = write_whole(&mut *target, &buffer);
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
                format!("output {name}: nobody reads standard output any more; undelivered events stay in the log")
            }
            _ => format!("output {name}: standard output cannot be written: {error}; it is tried again"),
        };
        if error.kind() == ErrorKind::BrokenPipe {
            self.context.stop.fail(message.clone());
        }
        Outcome::Retry { after: None, error: message }
    }
}

/// Writes all of `bytes`. Another program may have made the terminal non-blocking: then it waits and goes on.
#[expect(
    clippy::disallowed_methods,
    reason = "it runs where it may block, and nothing tells when a terminal takes bytes again"
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

/// Wait of a blocking thread before it tries a non-blocking terminal again.
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

    /// Takes few bytes at a time, and fails as told.
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

    /// Delivers `lines` once; the outcome, and whether the engine was told to end.
    fn deliver(encoding: Encoding, target: &Arc<Mutex<Terminal>>, lines: Vec<String>) -> (Outcome, Phase) {
        let mut simulation = Simulation::new(1);
        let context = context(simulation.env(ShardId(0)));
        let spec = Spec { encoding, target: target.clone(), writing: Arc::default() };
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
    fn text_is_the_message_alone() {
        let target = Arc::new(Mutex::new(Terminal::default()));
        let encoding = Encoding::new(
            Encode::Text,
            &TextForm { field: "m", newlines: Newlines::Escape, without: WithoutMessage::Json },
        );
        deliver(encoding, &target, vec!["{\"a\":1,\"m\":\"x\\ty\"}\n".to_owned(), "{\"a\":2}\n".to_owned()]);
        assert_eq!(target.lock().expect("no panic").written, b"x\ty\n{\"a\":2}\n");
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
    fn reader_that_is_gone_ends_the_engine() {
        let target = Arc::new(Mutex::new(Terminal { failures: vec![ErrorKind::BrokenPipe], ..Terminal::default() }));
        let (outcome, phase) = deliver(Encoding::Json, &target, vec!["{}\n".to_owned()]);
        assert!(matches!(outcome, Outcome::Retry { error, .. } if error.contains("nobody reads")));
        assert_eq!(phase, Phase::Forced);
    }

    #[test]
    fn other_errors_are_tried_again() {
        let target = Arc::new(Mutex::new(Terminal { failures: vec![ErrorKind::Other], ..Terminal::default() }));
        let (outcome, phase) = deliver(Encoding::Json, &target, vec!["{}\n".to_owned()]);
        assert!(matches!(outcome, Outcome::Retry { .. }));
        assert_eq!(phase, Phase::Running);
    }
}
