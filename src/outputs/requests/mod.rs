//! Shared by outputs that send requests: a delivery is split into concurrent requests.
//!
//! Guarantees: an event that the destination accepted, or rejected for good, is not sent again with others of its delivery,
//! as long as this instance exists: it remembers from attempt to attempt what is left of a delivery ([`Delivery::attempt`]).
//! A restart of the output or the process sends the whole delivery again. A request that is too large for the server is
//! halved, down to single events. So is a request whose response is too large to be read. A request that [`SETBACKS_MAX`] times
//! broke its connection, or overloaded the server although it was the only one, is halved too, down to [`LEARNT_BYTES_MIN`]:
//! servers that close a connection before they send 413, or that limit the bytes in progress, look like that. A single event
//! with such failures is retried without limit, because nothing shows that it is at fault. A request that is rejected because of its
//! content is halved too, so that only events at fault are rejected ([`suspects`] limits that). Memory is limited to `concurrency`
//! times `request_bytes`, once raw and once compressed, plus one event, and the responses: each is as large as its request may
//! need at most ([`answer_bytes_max`]), and a long one is read in steps that give the reactor its turns.
//!
//! When an attempt fails, no further request of the delivery is started, and running ones are awaited. The next attempt
//! follows after the engine's backoff, or after the time that the server asked for.

mod flights;
mod limit;
pub mod meaning;
pub mod part;
mod plan;
mod sources;
mod suspects;
mod targets;
#[cfg(test)]
pub mod tests;
mod verdict;

pub use plan::{Mistaken, Plan, RequestSettings, fatal};
pub use verdict::{BarredItem, Items, Verdict, verdict_of, verdict_of_status};

use super::file::compress::{Compression, MEMBER_BYTES_MAX, Member};
use super::letters::Owner;
use crate::net::client::{Client, Guards, Head, SendError, breathe};
use crate::net::reply::{BODY_BYTES_MAX, BodyError, Reply};
use crate::net::secrets::Secrets;
use flights::Flights;
use hyper::StatusCode;
use hyper::body::Bytes;
use limit::Limit;
use part::{Part, split};
use sources::sources_of;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use suspects::{DRAWS_MAX, Suspects};
use tailwater_shards::env::{Env, Monotonic, Timestamp};
use tailwater_shards::plugin::{Delivery, LocalFuture, Outcome, Output, Untaken};
use targets::Targets;

/// Maximum memory of requests: each once raw and once compressed, the compressor, and the response.
pub fn held_bytes_max(concurrency: u32, request_bytes: u64) -> u64 {
    u64::from(concurrency) * (2 * request_bytes + MEMBER_BYTES_MAX + BODY_BYTES_MAX as u64)
}

/// Maximum number of descriptors: each running request has a connection, and as many may be kept open per endpoint. The look-up of
/// an endpoint's name has a few of its own.
pub fn descriptors_max(concurrency: u32, endpoints: usize) -> u64 {
    (u64::from(concurrency) + LOOK_UP_DESCRIPTORS) * endpoints as u64 + u64::from(concurrency)
}

/// Descriptors of the look-up of one name: sockets to up to three name servers, and a file.
const LOOK_UP_DESCRIPTORS: u64 = 4;

/// What any response may have: a proxy's page, a trace of the server.
const ANSWER_BYTES_MIN: u64 = 256 * 1024;

/// What a response may have for each event in addition: its item, with what the server says about it itself.
const ANSWER_BYTES_PER_EVENT: u64 = 64 * 1024;

/// How often a response may repeat an event: in a reason, in its cause, in the root cause, with escapes.
const ANSWER_ECHOES: u64 = 4;

/// The largest response to a request that a server needs, within [`BODY_BYTES_MAX`].
fn answer_bytes_max(events: u64, raw_bytes: u64) -> usize {
    let needed = ANSWER_BYTES_MIN
        .saturating_add(events.saturating_mul(ANSWER_BYTES_PER_EVENT))
        .saturating_add(raw_bytes.saturating_mul(ANSWER_ECHOES));
    usize::try_from(needed).unwrap_or(usize::MAX).min(BODY_BYTES_MAX)
}

/// Bytes that are compressed between two checks of the time slice.
const COMPRESS_STEP_BYTES: usize = 64 * 1024;

/// If a request is too large for the server, requests do not become smaller than this: a single event may have been too
/// large.
const LEARNT_BYTES_MIN: u64 = 64 * 1024;

/// The same if a response was too large: it can be many times as long as its request.
const ANSWERED_BYTES_MIN: u64 = 4 * 1024;

/// How often a request fails in a way that its size may explain before it is halved.
const SETBACKS_MAX: u32 = 2;

/// How long requests stay smaller after such failures: the server may have had another problem.
const GUESS_LIFE: Duration = Duration::from_secs(600);

/// How often a request or event is sent again if it is unclear whether it was accepted or is at fault.
const DOUBTS_MAX: u32 = 5;

/// The protocol of one kind of output.
pub trait Protocol: 'static {
    /// Approximate number of bytes per event in a body in addition to its line.
    fn overhead_bytes(&self) -> u64;
    /// A new delivery begins at this time.
    fn begin(&mut self, _: Timestamp, _: Monotonic) {}
    /// Appends the body of a request with these events. Events that cannot be sent are left out and added to `refused` with
    /// the reason.
    fn body(&mut self, delivery: &Delivery<'_>, part: &Part, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>);
    /// Whether the body of a response matters, and not only its status.
    fn reads_bodies(&self) -> bool {
        true
    }
    /// The meaning of the response to a request with this many events. Gives the reactor turns while it reads a long one.
    fn verdict<E: Env>(&self, env: &E, reply: &Reply, events: u64) -> impl Future<Output = Verdict>;
    /// Learns what became of the events of a part, and may reject some that would be sent again.
    fn learn(&mut self, _: &Delivery<'_>, _: &Part, _: &mut Verdict, _: Monotonic) {}
}

/// One open output.
pub struct Requester<E: Env, P: Protocol> {
    env: E,
    protocol: P,
    /// Whose an event is; none if only its batch says so.
    owner: Option<Owner>,
    clients: Vec<Rc<Client<E>>>,
    /// What no message may quote from a response.
    secrets: Secrets,
    targets: Targets,
    limit: Limit,
    compression: Compression,
    /// The size of a request: the configured or known maximum, or less while a smaller size is being tried.
    request_bytes: u64,
    request_bytes_max: u64,
    guessed_until: Monotonic,
    buffers: Vec<Vec<u8>>,
    /// What is left of the current delivery.
    left: VecDeque<Part>,
    /// What is left of its rejected requests.
    suspects: Suspects,
    /// The events of it that the destination or the protocol rejected.
    rejected: Vec<(u64, String)>,
    /// Whether some of it was accepted or rejected in the last attempt.
    has_progressed: bool,
}

/// A request that has ended.
struct Landed {
    part: Part,
    body: Bytes,
    /// Length of the body before compression.
    raw_bytes: u64,
    target: usize,
    took: Duration,
    result: Result<Reply, SendError>,
}

/// A request that has ended, and what else counts in addition to the verdict.
#[derive(Default)]
struct Answered {
    part: Part,
    /// Length of the body as it was sent, and before compression.
    length: u64,
    raw_bytes: u64,
    target: usize,
    /// The server reports too many requests, but this is the only one.
    is_crowded: bool,
    after: Option<Duration>,
}

/// Why a delivery is to be retried.
#[derive(Default)]
struct Failure {
    error: Option<String>,
    after: Option<Duration>,
}

impl Failure {
    fn add(&mut self, error: String, after: Option<Duration>) {
        self.error.get_or_insert(error);
        self.after = self.after.max(after);
    }
}

impl<E: Env, P: Protocol> Requester<E, P> {
    /// An output that connects with its first request. `heads` has one entry for each endpoint of the plan.
    pub async fn open(env: E, plan: &Plan, heads: Vec<Head>, protocol: P) -> Result<Requester<E, P>, String> {
        let secrets = plan.secrets();
        let guards = Guards { tls: plan.secured(&env).await?, secrets: secrets.clone() };
        let targets = plan.ways.iter().cloned().zip(heads);
        let client = |(way, head)| Rc::new(Client::new(env.clone(), way, head, guards.clone(), plan.timeout));
        let clients: Vec<_> = targets.map(client).collect();
        Ok(Requester {
            targets: Targets::new(clients.len()),
            clients,
            secrets,
            limit: Limit::new(plan.concurrency),
            compression: plan.compression,
            request_bytes: plan.request_bytes,
            request_bytes_max: plan.request_bytes,
            guessed_until: Monotonic(0),
            protocol,
            owner: None,
            buffers: Vec::new(),
            left: VecDeque::new(),
            suspects: Suspects::default(),
            rejected: Vec::new(),
            has_progressed: false,
            env,
        })
    }

    /// The same output, which knows whose events are.
    pub fn of(self, owner: Option<Owner>) -> Requester<E, P> {
        Requester { owner, ..self }
    }

    async fn attempt(&mut self, delivery: &Delivery<'_>) -> Outcome {
        if delivery.attempt == 0 {
            if self.env.now() >= self.guessed_until {
                self.request_bytes = self.request_bytes_max;
            }
            self.left = split(delivery, self.request_bytes, self.protocol.overhead_bytes());
            self.suspects.begin();
            self.protocol.begin(self.env.wall(), self.env.now());
            self.rejected.clear();
        }
        self.suspects.begin_attempt();
        let undecided = self.undecided();
        let mut failure = Failure::default();
        let mut flights = Flights::new();
        loop {
            while failure.error.is_none() && flights.count() < self.limit.requests() {
                if self.suspects.wants_sources() {
                    let sources = sources_of(&self.env, delivery, self.owner.as_ref()).await;
                    self.suspects.learn(sources);
                }
                if self.suspects.has_asked_enough() {
                    if flights.count() == 0 {
                        let others = "others are tried with the next attempt";
                        failure
                            .add(format!("{DRAWS_MAX} single events were rejected, and none accepted; {others}"), None);
                    }
                    break;
                }
                let Some(part) = self.suspects.next().or_else(|| self.left.pop_front()) else { break };
                match self.prepare(delivery, part).await {
                    Ok(Some(flight)) => flights.launch(flight).await,
                    Ok(None) => {}
                    Err(error) => failure.add(format!("compression failed: {error}"), None),
                }
                breathe(&self.env).await;
            }
            let Some(landed) = flights.next().await else { break };
            self.land(delivery, landed, &mut failure).await;
        }
        self.has_progressed = self.undecided() < undecided;
        if let Some(error) = failure.error {
            return Outcome::Retry { after: failure.after, error };
        }
        self.rejected.sort_by_key(|(index, _)| *index);
        match std::mem::take(&mut self.rejected) {
            rejected if rejected.is_empty() => Outcome::Delivered,
            rejected => Outcome::Rejected(rejected),
        }
    }

    /// Number of events of the current delivery that are neither accepted nor rejected.
    fn undecided(&self) -> u64 {
        self.left.iter().map(Part::events).sum::<u64>() + self.suspects.events()
    }

    /// A request for the part; none if none of its events can be sent.
    async fn prepare(
        &mut self,
        delivery: &Delivery<'_>,
        part: Part,
    ) -> io::Result<Option<LocalFuture<'static, Landed>>> {
        let mut raw = self.buffers.pop().unwrap_or_default();
        let known = self.rejected.len();
        self.protocol.body(delivery, &part, &mut raw, &mut self.rejected);
        let refused: Vec<u64> = self.rejected[known..].iter().map(|(index, _)| *index).collect();
        let part = part.without(&refused);
        if part.events() == 0 {
            self.recycle(raw);
            return Ok(None);
        }
        let raw_bytes = raw.len() as u64;
        // The delivery was split before the request size was lowered.
        if raw_bytes > self.request_bytes.saturating_mul(3) / 2
            && let Some(halves) = part.halves()
        {
            halves.into_iter().rev().for_each(|half| self.left.push_front(half));
            self.recycle(raw);
            return Ok(None);
        }
        let body = match self.compress(&raw).await {
            Ok(None) => raw,
            Ok(Some(compressed)) => {
                self.recycle(raw);
                compressed
            }
            Err(error) => {
                self.left.push_front(part);
                return Err(error);
            }
        };
        let target = self.targets.choose(self.env.now());
        let (client, env, body) = (self.clients[target].clone(), self.env.clone(), Bytes::from(body));
        let answer_bytes_max = answer_bytes_max(part.events(), raw_bytes);
        Ok(Some(Box::pin(async move {
            let begun = env.now();
            let result = client.send(body.clone(), answer_bytes_max).await;
            Landed { part, body, raw_bytes, target, took: env.now().since(begun), result }
        })))
    }

    async fn compress(&mut self, raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(mut member) = Member::begin(self.compression)? else { return Ok(None) };
        let mut out = self.buffers.pop().unwrap_or_default();
        for step in raw.chunks(COMPRESS_STEP_BYTES) {
            member.push(step, &mut out)?;
            breathe(&self.env).await;
        }
        member.end(&mut out)?;
        Ok(Some(out))
    }

    /// Processes the result of a request.
    async fn land(&mut self, delivery: &Delivery<'_>, landed: Landed, failure: &mut Failure) {
        let Landed { part, body, raw_bytes, target, took, result } = landed;
        let now = self.env.now();
        let length = body.len() as u64;
        if body.is_unique() {
            self.recycle(Vec::from(body));
        }
        let reply = match result {
            Ok(reply) => reply,
            Err(SendError::Body { source, .. }) if source.status().is_some() && !self.protocol.reads_bodies() => {
                let (status, secrets) = (source.status().unwrap_or_default(), self.secrets.clone());
                Reply { status, retry_after: None, body: Vec::new(), secrets }
            }
            Err(error) => {
                self.targets.failed(target, now);
                self.limit.refused(now, took);
                return self.unanswered(
                    error,
                    Answered { part, length, raw_bytes, target, ..Answered::default() },
                    failure,
                );
            }
        };
        match reply.status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                self.targets.failed(target, now);
            }
            _ => self.targets.answered(target),
        }
        let verdict = self.protocol.verdict(&self.env, &reply, part.events()).await;
        let mut verdict = verdict.masked(&self.secrets, &async || breathe(&self.env).await).await;
        self.protocol.learn(delivery, &part, &mut verdict, now);
        let is_full = raw_bytes * 2 >= self.request_bytes;
        let is_crowded = reply.status == StatusCode::TOO_MANY_REQUESTS && self.limit.requests() == 1;
        match &verdict {
            Verdict::Retry(_) => self.limit.refused(now, took),
            Verdict::Items(items) if !items.retry.is_empty() => self.limit.refused(now, took),
            Verdict::Delivered | Verdict::Items(_) if is_full => self.limit.answered(now, took),
            _ => {}
        }
        let after = reply.retry_after;
        self.settle(verdict, Answered { part, length, raw_bytes, target, is_crowded, after }, failure);
    }

    /// Keeps a request without a readable response.
    fn unanswered(&mut self, error: SendError, answered: Answered, failure: &mut Failure) {
        let text = self.secrets.masked(error.to_string());
        let request = self.described(&answered.part, answered.raw_bytes, answered.target);
        match error {
            SendError::Broken { .. } => self.set_back(answered.part, answered.raw_bytes, LEARNT_BYTES_MIN, &text),
            // The response to fewer events is shorter.
            SendError::Body { source: BodyError::TooLarge(status, _) | BodyError::Bomb(status, _), .. }
                if answered.part.events() > 1 =>
            {
                if status.is_success() {
                    self.guess(answered.raw_bytes / 2, ANSWERED_BYTES_MIN, &text);
                    return self.settle(Verdict::Unclear(text), answered, failure);
                }
                self.set_back(answered.part, answered.raw_bytes, ANSWERED_BYTES_MIN, &text);
            }
            SendError::Body { source, .. } if source.status().is_some_and(|status| status.is_success()) => {
                return self.settle(Verdict::Doubtful(source.to_string()), answered, failure);
            }
            _ => self.left.push_front(answered.part),
        }
        failure.add(text + &request, None);
    }

    /// Describes a failed request, to follow the error in a message.
    fn described(&self, part: &Part, raw_bytes: u64, target: usize) -> String {
        let (method, events) = (self.clients[target].method(), part.events());
        format!(" ({method} with {events} {}, {raw_bytes} bytes)", if events == 1 { "event" } else { "events" })
    }

    /// Acts on the verdict for a request.
    fn settle(&mut self, verdict: Verdict, answered: Answered, failure: &mut Failure) {
        let Answered { mut part, length, raw_bytes, target, is_crowded, after } = answered;
        let named = |error: String| format!("{}: {error}", self.clients[target].name());
        let request = self.described(&part, raw_bytes, target);
        match verdict {
            Verdict::Delivered => self.suspects.taken(&part),
            Verdict::Retry(error) => {
                let error = named(error);
                match is_crowded {
                    true => self.set_back(part, raw_bytes, LEARNT_BYTES_MIN, &error),
                    false => self.left.push_front(part),
                }
                failure.add(error + &request, after);
            }
            Verdict::Unclear(error) if part.events() > 1 => {
                tracing::info!(
                    "sending a request again in halves, to see which events were accepted: {}",
                    named(error)
                );
                part.halves().into_iter().flatten().rev().for_each(|half| self.left.push_front(half));
            }
            Verdict::Unclear(error) | Verdict::Doubtful(error) => {
                let error = named(error);
                if part.doubt() > DOUBTS_MAX {
                    return self.suspects.refused(part, &error, &mut self.rejected);
                }
                self.left.push_back(part);
                failure.add(error + &request, after);
            }
            Verdict::TooLarge(error) => self.halve(part, length, raw_bytes, named(error)),
            Verdict::Refused(error) => self.suspects.refused(part, &named(error), &mut self.rejected),
            Verdict::Items(items) => {
                self.suspects.taken(&part);
                if !items.retry.is_empty() {
                    failure.add(named(items.error.clone()) + &request, after);
                }
                if let Some((_, error)) = items.doubtful.first() {
                    failure.add(named(error.clone()) + &request, after);
                }
                self.sort_items(&part, items);
            }
        }
    }

    /// Keeps the events to send again, and the rejected ones.
    fn sort_items(&mut self, part: &Part, items: Items) {
        let indexes: Vec<u64> = part.indexes().collect();
        let mut index_of = |place: usize| indexes.get(place).copied();
        let rejected = items.rejected.into_iter().filter_map(|(place, why)| Some((index_of(place)?, why)));
        self.rejected.extend(rejected);
        let again = Part::at(items.retry.into_iter().filter_map(&mut index_of));
        if again.events() > 0 {
            self.left.push_front(again);
        }
        let mut doubtful = part.only(items.doubtful.iter().filter_map(|(place, _)| index_of(*place)));
        if doubtful.events() > 0 {
            if doubtful.doubt() > DOUBTS_MAX {
                let all = items.doubtful.into_iter().filter_map(|(place, why)| Some((index_of(place)?, why)));
                self.rejected.extend(all);
            } else {
                self.left.push_back(doubtful);
            }
        }
        let unsaid = items.unsaid_from.unwrap_or(indexes.len()).min(indexes.len());
        let unsaid = Part::at(indexes[unsaid..].iter().copied());
        // If the server reports on few events at a time, it is soon asked about few.
        match unsaid.halves().filter(|_| unsaid.events() > indexes.len() as u64 / 2) {
            Some(halves) => halves.into_iter().rev().for_each(|half| self.left.push_front(half)),
            None if unsaid.events() > 0 => self.left.push_front(unsaid),
            None => {}
        }
    }

    /// Keeps a part whose size may be why it failed: after the others, which may succeed, and in halves if it failed before.
    /// A request of `bytes_min` is not halved.
    fn set_back(&mut self, mut part: Part, raw_bytes: u64, bytes_min: u64, error: &str) {
        let is_suspect = part.set_back() >= SETBACKS_MAX && raw_bytes > bytes_min;
        match part.halves().filter(|_| is_suspect) {
            Some(halves) => {
                self.guess(raw_bytes / 2, bytes_min, error);
                self.left.extend(halves);
            }
            None => self.left.push_back(part),
        }
    }

    /// The server says that a request is too large.
    fn halve(&mut self, part: Part, length: u64, raw_bytes: u64, error: String) {
        let Some(halves) = part.halves() else {
            let reason = format!("{error}; this event alone is too large for the destination ({length} bytes)");
            self.rejected.extend(part.indexes().map(|index| (index, reason.clone())));
            return;
        };
        self.guess(raw_bytes / 2, LEARNT_BYTES_MIN, &error);
        if self.compression == Compression::None {
            self.request_bytes_max = self.request_bytes_max.min((raw_bytes / 2).max(LEARNT_BYTES_MIN));
        }
        halves.into_iter().rev().for_each(|half| self.left.push_front(half));
    }

    /// Makes requests smaller for a while, but not smaller than `bytes_min`.
    fn guess(&mut self, request_bytes: u64, bytes_min: u64, error: &str) {
        let request_bytes = request_bytes.max(bytes_min);
        if request_bytes < self.request_bytes {
            self.request_bytes = request_bytes;
            self.guessed_until = self.env.now().after(GUESS_LIFE);
            tracing::warn!(request_bytes, "using smaller requests: {error}");
        }
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        // The memory of a huge event is freed.
        if buffer.capacity() as u64 <= self.request_bytes.saturating_mul(2) {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

impl<E: Env, P: Protocol> Output for Requester<E, P> {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(self.attempt(delivery))
    }

    fn has_progressed(&self) -> bool {
        self.has_progressed
    }

    fn give_up(&mut self) -> Option<Untaken> {
        let left = self.left.drain(..).chain(self.suspects.drain());
        let left = left.flat_map(|part| part.indexes().collect::<Vec<_>>()).collect();
        Some(Untaken { left, refused: std::mem::take(&mut self.rejected) })
    }

    fn tick(&mut self) -> LocalFuture<'_, ()> {
        self.clients.iter().for_each(|client| client.tick());
        Box::pin(async {})
    }
}
