//! A small threaded HTTP server that responds as a test defines, and outputs that run against it on a shard.

use super::{Items, Secrets, Verdict};
use crate::config::component::{Facts, OutputSettings};
use futures_lite::future::block_on;
use futures_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use std::cell::Cell;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tailwater_shards::counters::OutputCounters;
use tailwater_shards::glommio_env::{GlommioEnv, launch};
use tailwater_shards::plugin::{Delivery, Outcome, Output, OutputContext, Resume};
use tailwater_shards::wal::OutputNumber;

/// A received request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers.
    pub head: String,
    pub body: Vec<u8>,
    /// The number of its connection.
    pub connection: usize,
}

impl Seen {
    /// The value of a header that occurs once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = values.next()?.1;
        values.next().is_none().then_some(value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the server does with a request.
pub enum Act {
    /// Sends these bytes and continues.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    /// Sends nothing until the client disconnects.
    Silence,
}

/// A response with this status, further headers and a body.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn status(status: u16) -> Act {
    Act::Send(answer(status, "", b""))
}

type Handler = dyn Fn(usize, &Seen) -> Act + Send + Sync;

/// A server that runs until the process ends.
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `act` gets the number of earlier requests.
    pub fn start(act: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Server {
        Server::start_with(None, act)
    }

    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        act: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, act): (_, Arc<Handler>) = (seen.clone(), Arc::new(act));
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (log, act, tls) = (log.clone(), act.clone(), tls.clone());
                std::thread::spawn(move || {
                    // Many tests need a failing connection.
                    let _ = match tls {
                        None => serve(stream, connection, &log, &*act),
                        Some(tls) => match ServerConnection::new(tls) {
                            Ok(session) => serve(StreamOwned::new(session, stream), connection, &log, &*act),
                            Err(error) => Err(io::Error::other(error)),
                        },
                    };
                });
            }
        });
        Server { port, seen }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no handler panics").clone()
    }
}

fn serve(stream: impl Read + Write, connection: usize, log: &Mutex<Vec<Seen>>, act: &Handler) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let head = head.replace("\r\n", "\n");
        let mut seen = Seen { head, body: Vec::new(), connection };
        let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        seen.body.resize(length, 0);
        stream.read_exact(&mut seen.body)?;
        let number = {
            let mut log = log.lock().expect("no handler panics");
            log.push(seen.clone());
            log.len() - 1
        };
        match act(number, &seen) {
            Act::Send(bytes) => {
                stream.get_mut().write_all(&bytes)?;
                stream.get_mut().flush()?;
            }
            Act::Last(bytes) => {
                stream.get_mut().write_all(&bytes)?;
                return stream.get_mut().flush();
            }
            Act::Silence => {
                stream.read_exact(&mut [0])?;
            }
        }
    }
}

/// A port on which nothing listens.
pub fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

/// Runs `work` on its own shard.
pub fn on_shard<T: Send + 'static, F: Future<Output = T> + 'static>(
    work: impl FnOnce(GlommioEnv) -> F + Send + 'static,
) -> T {
    let (work, result) = (Arc::new(Mutex::new(Some(work))), Arc::new(Mutex::new(None)));
    let slot = result.clone();
    let drivers = launch(&[None], move |env: GlommioEnv| {
        let work = work.lock().expect("no panic").take().expect("one shard");
        let slot = slot.clone();
        async move {
            let value = work(env).await;
            *slot.lock().expect("no panic") = Some(value);
        }
    })
    .expect("a shard");
    drivers.wait();
    result.lock().expect("no panic").take().expect("the work ended")
}

/// What an output is opened with.
pub fn context(env: &GlommioEnv, counters: Arc<OutputCounters>) -> OutputContext<GlommioEnv> {
    OutputContext {
        env: env.clone(),
        name: "out".into(),
        number: OutputNumber(1),
        data_dir: Arc::new("/nowhere".into()),
        state_bytes_max: tailwater_shards::limits::COMMIT_STATE_BYTES_MAX,
        stop: Default::default(),
        counters,
    }
}

/// Opens an output with these settings.
pub async fn open<S: OutputSettings<GlommioEnv>>(env: &GlommioEnv, settings: &S) -> Result<Box<dyn Output>, String> {
    if let Some(mistake) = settings.check().first() {
        return Err(format!("{}: {}", mistake.key, mistake.what));
    }
    let spec = settings.spec(&Facts::of("h"), "out");
    spec.open(context(env, Arc::default()), Resume::whole(Vec::new())).await.map_err(|error| error.to_string())
}

/// Delivers like the engine: repeatedly, with a growing attempt number, until the delivery is decided or the number of
/// attempts is used up. Returns all outcomes.
pub fn deliver<S: OutputSettings<GlommioEnv> + Send + 'static>(
    settings: S,
    delivery: impl FnOnce() -> Delivery<'static> + Send + 'static,
    attempts: usize,
) -> Vec<Outcome> {
    on_shard(move |env| async move {
        let mut delivery = delivery();
        let mut output = match open(&env, &settings).await {
            Ok(output) => output,
            Err(error) => return vec![Outcome::Reopen(error)],
        };
        let mut outcomes = Vec::new();
        loop {
            let outcome = output.deliver(&delivery).await;
            let again = matches!(outcome, Outcome::Retry { .. });
            outcomes.push(outcome);
            if !again || outcomes.len() >= attempts {
                return outcomes;
            }
            delivery.attempt += 1;
        }
    })
}

/// The error of an attempt that is to be retried, and the time that the server asked for.
pub fn retry(outcome: &Outcome) -> (String, Option<Duration>) {
    match outcome {
        Outcome::Retry { after, error } => (error.clone(), *after),
        outcome => panic!("{outcome:?}"),
    }
}

/// A server may reject each of very many events with a long reason.
#[test]
fn reasons_are_masked_one_by_one_with_turns_in_between() {
    let mut value = HeaderValue::from_static("Bearer hush-hush");
    value.set_sensitive(true);
    let secrets = Secrets::of([&HeaderMap::from_iter([(AUTHORIZATION, value)])].into_iter(), [].into_iter());
    let all = |count: usize| (0..count).map(|place| (place, "it was hush-hush".to_owned())).collect::<Vec<_>>();
    let items = Items { rejected: all(1000), doubtful: all(100), error: "hush-hush".to_owned(), ..Items::default() };
    let turns = Cell::new(0);
    let masked = block_on(Verdict::Items(items).masked(&secrets, &async || turns.set(turns.get() + 1)));
    let Verdict::Items(items) = masked else { panic!("{masked:?}") };
    assert!(items.rejected.iter().chain(&items.doubtful).all(|(_, why)| why == "it was ***") && items.error == "***");
    assert_eq!((items.rejected.len(), items.doubtful.len(), turns.get()), (1000, 100, 1100));
}
