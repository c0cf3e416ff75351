//! The `http` output: sends events in the bodies of HTTP requests.
//!
//! Guarantees: an event counts as delivered when the server answers its request with a 2xx status, whatever the body of the
//! response is. A request without a response is sent again, so a server may receive an event more than once. The requests of
//! a delivery are concurrent, so events arrive in order only within a request. If a server rejects a request for good with a
//! 4xx status, the request is halved until the events at fault are alone: these become dead letters, and the others are
//! delivered. A server that rejects everything is not asked about each event ([`super::requests`]). If a status says that
//! credentials, the URL or headers are wrong, the output retries: [`super::requests::meaning`] has the table.
//!
//! Does not follow redirects or keep cookies.

use super::encoding::{Encoding, message_field, output_full};
use super::file::compress::Compression;
use super::letters::DeadLetters;
use super::requests::part::{Part, Slice};
use super::requests::{Mistaken, Plan, Protocol, RequestSettings, Requester, Verdict, fatal, verdict_of_status};
use crate::codec::secret::{Secret, Url, is_credential};
use crate::codec::template::is_template;
use crate::codec::text::TextEncoder;
use crate::config::component::{Component, Facts, Mistake, OutputSettings, TrustedFile};
use crate::config::nearest::nearest;
use crate::config::types::{
    Batching, ByteSize, Newlines, Period, RequestBatching, Retry, TextForm, WhenFull, WithoutMessage,
};
use crate::net::auth::Auth;
use crate::net::client::Head;
use crate::net::reply::Reply;
use crate::net::tls::Tls;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::dlq;
use tailwater_shards::env::{Disk, Env};
use tailwater_shards::plugin::{
    Delivery, Event, LocalFuture, OpenResult, Output, OutputContext, OutputSpec, Placement, PluginError, Resume,
};

/// The HTTP method of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// POST requests.
    #[default]
    Post,
    /// PUT requests.
    Put,
}

/// How events are arranged in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// One JSON object per line, `application/x-ndjson`.
    #[default]
    Ndjson,
    /// One array of JSON objects, `application/json`.
    JsonArray,
    /// The message of each event, one per line, `text/plain`.
    Text,
}

/// The settings of the output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The URL of the requests: `http://` or `https://`, without user and password.
    pub url: Url,
    /// The HTTP method of the requests.
    #[serde(default)]
    pub method: Verb,
    /// Further headers, or other values for headers that are sent by default. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Credentials: `{basic: {user: u, password: p}}`, `{bearer: token}` or `{api_key: key}`. Never shown.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// How the server is verified, and the client certificate.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// The HTTP proxy, `http://user:password@host:port`, or `none`. By default, the environment variables `HTTPS_PROXY`,
    /// `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` decide. Never shown.
    #[serde(default)]
    pub proxy: Option<Url>,
    /// How events are arranged in a body.
    #[serde(default)]
    pub framing: Framing,
    /// With `framing: text`, the field that holds the message.
    #[serde(default = "message_field")]
    pub message_field: String,
    /// With `framing: text`, what happens to newlines inside a message.
    #[serde(default)]
    pub newlines: Newlines,
    /// With `framing: text`, what happens to an event without a message.
    #[serde(default)]
    pub without_message: WithoutMessage,
    /// How bodies are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Maximum size of a body before compression, up to 64MiB. A larger event is sent alone.
    #[serde(default = "request_bytes_default")]
    pub request_bytes: ByteSize,
    /// Maximum number of concurrent requests, 1 to 64. Fewer are sent while the server responds slowly.
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

/// The default of `request_bytes`.
pub fn request_bytes_default() -> ByteSize {
    ByteSize(1 << 20)
}

/// The default of `concurrency`.
pub fn concurrency_default() -> u32 {
    4
}

/// The default of `timeout`.
pub fn timeout_default() -> Period {
    Period(Duration::from_secs(30))
}

impl Component for Settings {
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "Sends events in HTTP requests, as NDJSON, JSON arrays or plain text.";
    const EXAMPLE: &'static str =
        "type: http\nurl: https://logs.example.com/ingest\nauth: {bearer: \"${TOKEN:-none}\"}\ncompression: gzip\n";

    fn check(&self) -> Vec<Mistake> {
        let plan = self.plan().err().unwrap_or_default();
        plan.into_iter().chain(self.dead_letters.check()).collect()
    }

    fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        self.requests().check_files(disk)
    }

    fn doubts(&self) -> Vec<Mistake> {
        self.requests().doubts(self.headers.keys().any(|name| is_credential(name)))
    }

    fn trusted_files(&self) -> Vec<TrustedFile> {
        self.requests().trusted_files()
    }
}

impl Settings {
    fn requests(&self) -> RequestSettings<'_> {
        let content_type = match self.framing {
            Framing::Ndjson => "application/x-ndjson",
            Framing::JsonArray => "application/json",
            Framing::Text => "text/plain; charset=utf-8",
        };
        RequestSettings {
            url_key: "url",
            is_list: false,
            urls: std::slice::from_ref(&self.url),
            auth: &self.auth,
            tls: &self.tls,
            proxy: &self.proxy,
            content_type,
            compression: self.compression,
            request_bytes: self.request_bytes.0,
            concurrency: self.concurrency,
            timeout: self.timeout.0,
        }
    }

    fn plan(&self) -> Mistaken<Plan> {
        let (mut headers, mut mistakes) = (Vec::new(), Vec::new());
        for (name, value) in &self.headers {
            match header(name, value) {
                Ok((header, _)) if header == AUTHORIZATION && self.auth.is_some() => {
                    let what = "`auth` sets this header too";
                    mistakes
                        .push(Mistake::new(format!("headers.{name}"), what, "remove it, or `auth`").needing(&["auth"]));
                }
                Ok(header) => headers.push(header),
                Err((what, help)) => mistakes.push(Mistake::new(format!("headers.{name}"), what, help)),
            }
        }
        match self.requests().plan() {
            Ok(mut plan) if mistakes.is_empty() => {
                for (name, value) in headers {
                    plan.headers.insert(name, value);
                }
                Ok(plan)
            }
            Ok(_) => Err(mistakes),
            Err(others) => Err(others.into_iter().chain(mistakes).collect()),
        }
    }

    fn bodies(&self) -> Bodies {
        match self.framing {
            Framing::Ndjson => Bodies::Lines(Encoding::Json),
            Framing::Text => {
                let form =
                    TextForm { field: &self.message_field, newlines: self.newlines, without: self.without_message };
                Bodies::Lines(Encoding::Text(TextEncoder::new(&form)))
            }
            Framing::JsonArray => Bodies::Array,
        }
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, _: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        self.dead_letters.of(Arc::new(Spec(self.clone())))
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
        super::requests::descriptors_max(self.concurrency, 1)
    }
}

struct Spec(Settings);

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::Every
    }

    fn open(&self, context: OutputContext<E>, _: Resume) -> LocalFuture<'static, OpenResult> {
        let settings = self.0.clone();
        let owner = settings.dead_letters.owner();
        Box::pin(async move {
            let plan = settings.plan().map_err(fatal)?;
            let method = match settings.method {
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
            };
            let paths = plan.ways.iter().map(|way| way.endpoint.path.parse());
            let paths: Result<Vec<_>, _> = paths.collect();
            let paths = paths.map_err(|_| PluginError::Fatal("the path of the URL is invalid".to_owned()))?;
            let heads =
                paths.into_iter().map(|path| Head { method: method.clone(), path, headers: plan.headers.clone() });
            let opened = Requester::open(context.env, &plan, heads.collect(), settings.bodies()).await;
            // Certificate files may be readable again later.
            opened.map(|output| Box::new(output.of(owner)) as Box<dyn Output>).map_err(PluginError::Retry)
        })
    }
}

/// Whether a header would be `Authorization` but for a typing error: without it, the server gets no credentials.
fn is_misspelt_authorization(name: &str) -> bool {
    const RIGHT: &str = "authorization";
    let is_near = name.len().abs_diff(RIGHT.len()) <= 1 && nearest(name, [RIGHT]).is_some();
    is_near && !name.eq_ignore_ascii_case(RIGHT)
}

/// A header, or what is wrong with it and what to do.
fn header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), (&'static str, &'static str)> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(match name.contains(':') {
            true => ("this is not a valid header name", "write the name and its value apart: `headers: {NAME: VALUE}`"),
            false => ("this is not a valid header name", "use letters, digits and dashes"),
        });
    };
    if is_misspelt_authorization(name) {
        return Err(("no server knows a header of this name", "did you mean Authorization?"));
    }
    if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&header) {
        return Err(("this header is set for each request", "remove it"));
    }
    if is_template(value.expose()) {
        let help =
            "write a fixed value; to send different values, write one output for each and route events with `when`";
        return Err(("a header takes no fields of events", help));
    }
    if value.expose().get(..=name.len()).is_some_and(|start| start.eq_ignore_ascii_case(&format!("{name}:"))) {
        return Err(("its value begins with the name of the header", "write only what follows the colon"));
    }
    let Ok(mut value) = HeaderValue::from_str(value.expose()) else {
        return Err(("its value contains a character that is not allowed in a header", "remove control characters"));
    };
    value.set_sensitive(true);
    Ok((header, value))
}

/// How bodies are built.
enum Bodies {
    Lines(Encoding),
    Array,
}

impl Protocol for Bodies {
    fn overhead_bytes(&self) -> u64 {
        0
    }

    fn body(&mut self, delivery: &Delivery<'_>, part: &Part, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        match self {
            Bodies::Lines(encoding) => part.visit(delivery, |slice| match slice {
                Slice::Piece(piece, first) => encoding.piece(piece, first, out, refused),
                Slice::Event(event, index) => encoding.event(event, index, out, refused),
            }),
            Bodies::Array => {
                out.push(b'[');
                let mut push = |event: Event<'_>| {
                    out.extend_from_slice(event.line.strip_suffix(b"\n").unwrap_or(event.line));
                    out.push(b',');
                };
                part.visit(delivery, |slice| match slice {
                    Slice::Piece(piece, _) => piece.iter().for_each(&mut push),
                    Slice::Event(event, _) => push(event),
                });
                out.pop();
                out.push(b']');
            }
        }
    }

    fn reads_bodies(&self) -> bool {
        false
    }

    async fn verdict<E: Env>(&self, _: &E, reply: &Reply, _: u64) -> Verdict {
        verdict_of_status(reply)
    }
}

#[cfg(test)]
mod tests;
