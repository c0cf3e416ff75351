//! The `elasticsearch` output: sends events with the bulk API to Elasticsearch 7, 8 and 9 and to OpenSearch.
//!
//! Guarantees: an event counts as delivered when the server confirms this event. If the server is too busy for an event, only
//! this event is sent again. If it rejects an event for good, the event becomes a dead letter with the server's reason, and
//! the other events of the request stay delivered. With `op: create` and an `id`, an event that is sent twice, because a
//! response was lost or the process was killed, is stored once. Without an id, it is stored at least once. A status and an
//! error type mean the same for a request and for one of its events; one table decides ([`super::requests::meaning`]). How
//! compatible stores respond is described in `answer.rs`. No response makes Tailwater send accepted events again without
//! limit. An event chooses an index only behind the fixed beginning of the template, no more of them than `max_indexes`, and replaces
//! documents only if the configuration allows it.
//!
//! Does not create indexes, templates, data streams or pipelines, and does not discover further nodes of the cluster.

mod answer;
mod barred;
mod bulk;
mod names;

use super::encoding::output_full;
use super::file::compress::Compression as BodyCompression;
use super::http::{concurrency_default, request_bytes_default, timeout_default};
use super::letters::DeadLetters;
use super::requests::part::Part;
use super::requests::{Mistaken, Plan, Protocol, RequestSettings, Requester, Verdict, fatal};
use crate::codec::marked;
use crate::codec::secret::Url;
use crate::codec::template::{Template, is_template};
use crate::config::component::{Component, Facts, Mistake, OutputSettings, TrustedFile};
use crate::config::timezone::Timezone;
use crate::config::types::{Batching, ByteSize, Period, RequestBatching, Retry, WhenFull};
use crate::net::auth::Auth;
use crate::net::client::{Head, breathe};
use crate::net::endpoint::Endpoint;
use crate::net::reply::Reply;
use crate::net::tls::Tls;
use bulk::{Bulk, Id};
use hyper::{Method, Uri};
use names::Indexes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::dlq;
use tailwater_shards::env::{Disk, Env, Monotonic, Timestamp};
use tailwater_shards::plugin::{
    Delivery, LocalFuture, OpenResult, Output, OutputContext, OutputSpec, Placement, PluginError, Resume,
};

/// What the server does with an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Writes it. An event with the same id is replaced.
    #[default]
    Index,
    /// Writes it unless an event with its id exists. Data streams accept only this.
    Create,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip, fastest level.
    Gzip,
}

/// The settings of the output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Servers of one cluster, `http://` or `https://`. Requests go to them in turn; a server that failed is skipped for a
    /// while.
    pub endpoints: Vec<Url>,
    /// The index or data stream, with dates (of the event) and fields: `logs-{{ service | default('none') }}-%Y.%m.%d`. Converted
    /// to lowercase. Without a default, an event that lacks the field goes to the index for the value `unknown`. A letter, a
    /// digit or a date must come before the first field, or else `allow_any_index` is needed.
    #[serde(deserialize_with = "marked::text")]
    pub index: String,
    /// Allow `index` to begin with a field: whoever writes the events then chooses any index of the server that the credentials
    /// can write to, except those whose names begin with a dot.
    #[serde(default)]
    pub allow_any_index: bool,
    /// Maximum number of different values of the fields in `index`, or combinations of them, that get indexes within a day, 1 to
    /// 100,000. Events with other values become dead letters. Dates count if they are older than 7 days or more than a day ahead.
    #[serde(default = "indexes_default")]
    pub max_indexes: u32,
    /// The time zone of the dates in `index`: a name such as `Europe/Berlin`, an offset such as `"+02:00"`, or `local`; by
    /// default UTC.
    #[serde(default)]
    pub timezone: Timezone,
    /// What the server does with an event.
    #[serde(default)]
    pub op: Op,
    /// The id of an event: `hash` (SHA-256 of its whole line, so that equal events become one), or a template with fields, such as
    /// `{{ trace_id }}` (without defaults). By default, and if a field is missing or not valid UTF-8, the server generates it.
    /// A template needs `op: create` or `allow_replace`.
    #[serde(default)]
    #[serde(deserialize_with = "marked::optional")]
    pub id: Option<String>,
    /// Allow an `id` from fields with `op: index`: whoever writes the events can then replace any document of the index whose id
    /// they know.
    #[serde(default)]
    pub allow_replace: bool,
    /// The ingest pipeline of the server that processes the events.
    #[serde(default)]
    pub pipeline: Option<String>,
    /// Credentials: `{basic: {user: u, password: p}}`, `{bearer: token}` or `{api_key: key}`. Never shown.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// How servers are verified, and the client certificate.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// The HTTP proxy, `http://user:password@host:port`, or `none`. By default, the environment variables `HTTPS_PROXY`,
    /// `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` decide. Never shown.
    #[serde(default)]
    pub proxy: Option<Url>,
    /// How bodies are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Maximum size of a body before compression, up to 64MiB. A larger event is sent alone.
    #[serde(default = "request_bytes_default")]
    pub request_bytes: ByteSize,
    /// Maximum number of concurrent requests, 1 to 64. Fewer are sent while the servers respond slowly.
    #[serde(default = "concurrency_default")]
    pub concurrency: u32,
    /// Maximum time of a request, from connecting to the end of the response.
    #[serde(default = "timeout_default")]
    pub timeout: Period,
    /// How deliveries are grouped.
    #[serde(default)]
    pub batch: RequestBatching,
    /// How failed deliveries are retried.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to its events if the WAL is full because of this output.
    #[serde(default)]
    pub when_full: WhenFull,
    /// What happens to its dead letters beyond its share of the queue.
    #[serde(default)]
    pub dead_letters: DeadLetters,
}

/// How long the server waits for a shard or a new index, whatever is configured: all events of the request wait meanwhile.
const SERVER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Maximum number of indexes, whatever is configured: up to 150 bytes of memory for each.
const INDEXES_MAX: u32 = 100_000;

/// With a copy of each index, and eight days of each value, about what a cluster of a few nodes allows.
fn indexes_default() -> u32 {
    200
}

impl Component for Settings {
    const NAME: &'static str = "elasticsearch";
    const SUMMARY: &'static str = "Sends events to Elasticsearch or OpenSearch with the bulk API.";
    const EXAMPLE: &'static str = "type: elasticsearch\nendpoints: [http://127.0.0.1:9200]\nindex: logs-%Y.%m.%d\n";

    fn check(&self) -> Vec<Mistake> {
        let job = self.job().err().unwrap_or_default();
        job.into_iter().chain(self.dead_letters.check()).collect()
    }

    fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        self.requests().check_files(disk)
    }

    fn doubts(&self) -> Vec<Mistake> {
        self.requests().doubts(false)
    }

    fn trusted_files(&self) -> Vec<TrustedFile> {
        self.requests().trusted_files()
    }
}

/// What an instance needs.
struct Job {
    plan: Plan,
    heads: Vec<Head>,
    bulk: Bulk,
}

impl Settings {
    fn job(&self) -> Mistaken<Job> {
        let (requests, mut mistakes) = (self.requests(), Vec::new());
        for (number, url) in self.endpoints.iter().enumerate() {
            if Endpoint::parse(url.expose()).is_ok_and(|endpoint| endpoint.path.contains('?')) {
                let help = "remove `?` and everything after it";
                mistakes.push(Mistake::new(requests.url_key(number), "an endpoint has a query", help));
            }
        }
        if !(1..=INDEXES_MAX).contains(&self.max_indexes) {
            let what = format!("{} is not between 1 and {INDEXES_MAX}", self.max_indexes);
            mistakes.push(Mistake::new("max_indexes", what, "remove the key to use the default, 200"));
        }
        // Servers reject every request with an empty name.
        if self.pipeline.as_deref() == Some("") {
            mistakes.push(Mistake::new("pipeline", "it is empty", "name a pipeline of the server, or remove the key"));
        }
        if self.pipeline.as_deref().is_some_and(is_template) {
            let help =
                "write its name; to use several pipelines, write one output for each and route events with `when`";
            mistakes.push(Mistake::new("pipeline", "the name of a pipeline takes no fields of events", help));
        }
        let plan = requests.plan().map_err(|others| mistakes.extend(others)).ok();
        let index = self.index().map_err(|others| mistakes.extend(others)).ok();
        let id = self.event_id().map_err(|others| mistakes.extend(others)).ok();
        let (Some(plan), Some(index), Some(id)) = (plan, index, id) else { return Err(mistakes) };
        let mut heads = Vec::new();
        for endpoint in plan.ways.iter().map(|way| &way.endpoint) {
            match format!("{}/_bulk?{}", endpoint.base(), self.query()).parse::<Uri>() {
                Ok(path) => heads.push(Head { method: Method::POST, path, headers: plan.headers.clone() }),
                Err(_) => {
                    let help = "use letters, digits, - and _";
                    mistakes.push(Mistake::new("pipeline", "it cannot be part of a URL", help));
                }
            }
        }
        let op = match self.op {
            Op::Index => bulk::Op::Index,
            Op::Create => bulk::Op::Create,
        };
        match mistakes.is_empty() {
            true => Ok(Job { plan, heads, bulk: Bulk::new(op, index, id) }),
            false => Err(mistakes),
        }
    }

    fn requests(&self) -> RequestSettings<'_> {
        RequestSettings {
            url_key: "endpoints",
            is_list: true,
            urls: &self.endpoints,
            auth: &self.auth,
            tls: &self.tls,
            proxy: &self.proxy,
            content_type: "application/x-ndjson",
            compression: match self.compression {
                Compression::None => BodyCompression::None,
                Compression::Gzip => BodyCompression::Gzip,
            },
            request_bytes: self.request_bytes.0,
            concurrency: self.concurrency,
            timeout: self.timeout.0,
        }
    }

    /// Requests only the parts of the response that are read: statuses and errors. The server waits for shards and new indexes no longer
    /// than a third of `timeout`, so that it can still say which events are affected.
    fn query(&self) -> String {
        let wait = (self.timeout.0 / 3).min(SERVER_WAIT_MAX).max(Duration::from_millis(1)).as_millis();
        let mut query = format!("filter_path=errors,items.*.status,items.*.error&timeout={wait}ms");
        if let Some(pipeline) = &self.pipeline {
            query.push_str("&pipeline=");
            for byte in pipeline.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => query.push(char::from(byte)),
                    _ => query.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        query
    }

    /// The parsed template of the index; an error says everything that is wrong with it.
    pub fn template(&self) -> Result<Template, Vec<String>> {
        Template::parse(&self.index)
    }

    fn index(&self) -> Mistaken<Template> {
        let mistake = |what: String| Mistake::new("index", what, "write it like logs-{{ service }}-%Y.%m.%d");
        let index = self.template().map_err(|wrong| wrong.into_iter().map(mistake).collect::<Vec<_>>())?;
        if marked::plain(&self.index).trim().is_empty() {
            return Err(vec![Mistake::new("index", "it is empty", "write it like logs-%Y.%m.%d")]);
        }
        if let Some(what) = names::never_fit(&index) {
            return Err(vec![mistake(what)]);
        }
        if index.begins_with_field() && !self.allow_any_index {
            let what = "it begins with a field, so events would choose any index of the server";
            let help =
                "begin with fixed text, such as logs-{{ service }}, or write `allow_any_index: true` to allow it";
            return Err(vec![Mistake::new("index", what, help)]);
        }
        Ok(index.in_zone(&self.timezone.0))
    }

    fn event_id(&self) -> Mistaken<Id> {
        let mistake = |what: String| Mistake::new("id", what, "write it like {{ trace_id }}, or hash");
        match self.id.as_deref() {
            None => Ok(Id::None),
            Some(text) if marked::plain(text) == "hash" => Ok(Id::Hash),
            Some(text) => match Template::parse(text) {
                Ok(template) if template.has_defaults() => {
                    let help = "remove the default: the server chooses an id for an event without the field";
                    Err(vec![Mistake::new("id", "all events without the field would have the same id", help)])
                }
                Ok(template) if template.has_fields() && self.op == Op::Index && !self.allow_replace => {
                    let what = "with `op: index`, an event could replace any document of the index whose id it names";
                    let help = "write `op: create`, or `allow_replace: true` to allow it";
                    Err(vec![Mistake::new("id", what, help).needing(&["op"])])
                }
                Ok(template) if template.has_fields() => Ok(Id::Template(template)),
                Ok(_) => Err(vec![mistake("all events would have the same id".to_owned())]),
                Err(wrong) => Err(wrong.into_iter().map(mistake).collect()),
            },
        }
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, _: &Facts, name: &str) -> Arc<dyn OutputSpec<E>> {
        let indexes = Arc::new(Indexes::new(name, self.max_indexes as usize));
        self.dead_letters.of(Arc::new(Spec { settings: self.clone(), indexes }))
    }

    fn batching(&self) -> Batching {
        self.batch.into()
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
        super::requests::held_bytes_max(self.concurrency, self.request_bytes.0)
    }

    fn descriptors_max(&self) -> u64 {
        super::requests::descriptors_max(self.concurrency, self.endpoints.len())
    }
}

struct Spec {
    settings: Settings,
    /// Kept here so that all instances share it, and so that it outlives each opening.
    indexes: Arc<Indexes>,
}

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::Every
    }

    fn open(&self, context: OutputContext<E>, _: Resume) -> LocalFuture<'static, OpenResult> {
        let (settings, indexes) = (self.settings.clone(), self.indexes.clone());
        let owner = settings.dead_letters.owner();
        Box::pin(async move {
            let Job { plan, heads, bulk } = settings.job().map_err(fatal)?;
            let bulk = bulk.of_output(context.counters, indexes, owner.clone());
            let opened = Requester::open(context.env, &plan, heads, bulk).await;
            // Certificate files may be readable again later.
            opened.map(|output| Box::new(output.of(owner)) as Box<dyn Output>).map_err(PluginError::Retry)
        })
    }
}

impl Protocol for Bulk {
    fn overhead_bytes(&self) -> u64 {
        Bulk::overhead_bytes(self)
    }

    fn begin(&mut self, wall: Timestamp, now: Monotonic) {
        Bulk::begin(self, wall, now);
    }

    fn body(&mut self, delivery: &Delivery<'_>, part: &Part, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        Bulk::body(self, delivery, part, out, refused);
    }

    fn learn(&mut self, delivery: &Delivery<'_>, part: &Part, verdict: &mut Verdict, now: Monotonic) {
        Bulk::learn(self, delivery, part, verdict, now);
    }

    async fn verdict<E: Env>(&self, env: &E, reply: &Reply, events: u64) -> Verdict {
        answer::verdict(reply, events, self.knows_its_events(), &async || breathe(env).await).await
    }
}

#[cfg(test)]
mod tests;
