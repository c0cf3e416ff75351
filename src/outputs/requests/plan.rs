//! What a request output is to do, out of the keys that all of them have.
//!
//! Guarantees: what makes no sense is said with the key it stands at, and no credential is in what is said. Reads no file before
//! [`Plan::secured`], unless it is asked to look at them.

use super::super::file::compress::Compression;
use crate::config::component::{Mistake, UNREAD_HELP};
use crate::net::auth::{Auth, Secret};
use crate::net::client::{Secured, Way};
use crate::net::endpoint::Endpoint;
use crate::net::proxy::{Proxy, of_environment};
use crate::net::tls::Tls;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use std::time::Duration;
use tailwater_shards::env::{Disk, Env};

/// Most requests under way at a time, whatever is configured.
const CONCURRENCY_MAX: u32 = 64;

/// Largest request, whatever is configured.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// The keys, borrowed from the settings.
pub struct RequestSettings<'a> {
    /// The key that holds the URLs.
    pub url_key: &'static str,
    /// The URLs.
    pub urls: &'a [String],
    /// Who the product says it is.
    pub auth: &'a Option<Auth>,
    /// TLS.
    pub tls: &'a Option<Tls>,
    /// The URL of a proxy, or `none`; without it the environment says.
    pub proxy: &'a Option<Secret>,
    /// What bodies are.
    pub content_type: &'static str,
    /// How bodies are compressed.
    pub compression: Compression,
    /// Size of a request.
    pub request_bytes: u64,
    /// Most requests under way.
    pub concurrency: u32,
    /// Time of a request.
    pub timeout: Duration,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where requests go, and how.
    pub ways: Vec<Way>,
    /// The headers of all requests.
    pub headers: HeaderMap,
    /// How bodies are compressed.
    pub compression: Compression,
    /// Size of a request.
    pub request_bytes: u64,
    /// Most requests under way.
    pub concurrency: u32,
    /// Time of a request.
    pub timeout: Duration,
    tls: Option<Tls>,
}

/// A plan, or what makes no sense.
pub type Mistaken<T> = Result<T, Mistake>;

/// A mistake at a key.
pub fn mistake<T>(key: &str, what: impl Into<String>, help: &str) -> Mistaken<T> {
    Err(Mistake { key: key.to_owned(), what: what.into(), help: help.to_owned() })
}

impl RequestSettings<'_> {
    /// What keeps the files of TLS from being used, where a URL asks for it. May block.
    pub fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let is_secure = |url: &String| Endpoint::parse(url).is_ok_and(|endpoint| endpoint.secure);
        if !self.urls.iter().any(is_secure) {
            return Vec::new();
        }
        let all = self.tls.clone().unwrap_or_default().check_files(disk);
        all.into_iter().map(|(key, what)| Mistake { key: key.to_owned(), what, help: UNREAD_HELP.to_owned() }).collect()
    }

    /// Checks the keys and makes the plan.
    pub fn plan(&self) -> Mistaken<Plan> {
        if self.urls.is_empty() {
            return mistake(self.url_key, "no endpoint is given", "give at least one, like http://127.0.0.1:9200");
        }
        let mut endpoints = Vec::new();
        for url in self.urls {
            match Endpoint::parse(url) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(what) => return mistake(self.url_key, what, "write it like https://logs.example.com:8443/path"),
            }
        }
        if let Some(tls) = self.tls {
            if !endpoints.iter().any(|endpoint| endpoint.secure) {
                return mistake("tls", "no URL begins with https://", "leave `tls` out, or use https://");
            }
            if let Err((key, what)) = tls.check() {
                return mistake(key, what, "give what belongs together, or leave it out");
            }
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            let what = format!("{} is not between 1 and {CONCURRENCY_MAX}", self.concurrency);
            return mistake("concurrency", what, "leave it out for 4");
        }
        if !(1..=REQUEST_BYTES_MAX).contains(&self.request_bytes) {
            let what = format!("{} bytes are not between 1 and {REQUEST_BYTES_MAX}", self.request_bytes);
            return mistake("request_bytes", what, "leave it out for 1MiB");
        }
        if self.timeout.is_zero() {
            return mistake("timeout", "no time at all", "write it like 30s");
        }
        Ok(Plan {
            headers: self.headers()?,
            ways: self.ways(endpoints)?,
            compression: self.compression,
            request_bytes: self.request_bytes,
            concurrency: self.concurrency,
            timeout: self.timeout,
            tls: self.tls.clone(),
        })
    }

    fn ways(&self, endpoints: Vec<Endpoint>) -> Mistaken<Vec<Way>> {
        let help = "write it like http://user:password@proxy.example.com:3128, or `none` to go without one";
        let all = endpoints.into_iter().map(|endpoint| {
            let proxy = match self.proxy.as_ref().map(|proxy| proxy.expose().trim()) {
                Some("none") => Ok(None),
                Some(url) => Proxy::parse(url).map(Some),
                None => of_environment(&endpoint, &|name| std::env::var(name).ok()),
            };
            Ok(Way { endpoint, proxy: proxy.or_else(|what| mistake("proxy", what, help))? })
        });
        all.collect()
    }

    fn headers(&self) -> Mistaken<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tailwater/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let encoding = match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        match self.auth.as_ref().map(Auth::header) {
            Some(Ok(value)) => drop(headers.insert(AUTHORIZATION, value)),
            Some(Err(what)) => return mistake("auth", what, "correct the credentials"),
            None => {}
        }
        Ok(headers)
    }
}

impl Plan {
    /// Reads what TLS needs; none if no endpoint speaks it.
    pub async fn secured<E: Env>(&self, env: &E) -> Result<Option<Secured>, String> {
        if !self.ways.iter().any(|way| way.endpoint.secure) {
            return Ok(None);
        }
        let (tls, disk) = (self.tls.clone().unwrap_or_default(), env.disk().clone());
        let server_name = tls.server_name.clone();
        let connector = env.blocking(move || tls.connector(&disk)).await?;
        Ok(Some(Secured { connector, server_name }))
    }
}
