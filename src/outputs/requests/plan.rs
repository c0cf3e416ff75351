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
use tailwater_shards::plugin::PluginError;

/// Most requests under way at a time, whatever is configured.
const CONCURRENCY_MAX: u32 = 64;

/// Largest request, whatever is configured.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// The keys, borrowed from the settings.
pub struct RequestSettings<'a> {
    /// The key that holds the URLs.
    pub url_key: &'static str,
    /// Whether it holds a list of them.
    pub is_list: bool,
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

/// A plan, or all that makes no sense.
pub type Mistaken<T> = Result<T, Vec<Mistake>>;

/// What ends an output whose settings make no sense.
pub fn fatal(mistakes: Vec<Mistake>) -> PluginError {
    let all: Vec<String> = mistakes.into_iter().map(|mistake| mistake.what).collect();
    PluginError::Fatal(all.join("; "))
}

impl RequestSettings<'_> {
    /// What keeps the files of TLS from being used, where a URL asks for it. May block.
    pub fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let is_secure = |url: &String| Endpoint::parse(url).is_ok_and(|endpoint| endpoint.secure);
        if !self.urls.iter().any(is_secure) {
            return Vec::new();
        }
        let all = self.tls.clone().unwrap_or_default().check_files(disk);
        all.into_iter().map(|(key, what)| Mistake::new(key, what, UNREAD_HELP)).collect()
    }

    /// The key of a URL.
    pub fn url_key(&self, number: usize) -> String {
        if self.is_list { format!("{}.{number}", self.url_key) } else { self.url_key.to_owned() }
    }

    /// Checks the keys and makes the plan.
    pub fn plan(&self) -> Mistaken<Plan> {
        let mut mistakes = Vec::new();
        if self.urls.is_empty() {
            let help = "give at least one, like http://127.0.0.1:9200";
            mistakes.push(Mistake::new(self.url_key, "no endpoint is given", help));
        }
        let mut endpoints = Vec::new();
        for (number, url) in self.urls.iter().enumerate() {
            let help = "write it like https://logs.example.com:8443/path";
            match Endpoint::parse(url) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(what) => mistakes.push(Mistake::new(self.url_key(number), what, help)),
            }
        }
        if let Some(tls) = self.tls {
            let are_plain = endpoints.iter().all(|endpoint| !endpoint.secure) && endpoints.len() == self.urls.len();
            if are_plain && !endpoints.is_empty() {
                let help = "leave `tls` out, or use https://";
                mistakes.push(Mistake::new("tls", "no URL begins with https://", help).needing(&[self.url_key]));
            }
            let help = "give what belongs together, or leave it out";
            let needs = ["tls.cert_file", "tls.key_file"];
            let wrong = tls.check().into_iter();
            mistakes.extend(wrong.map(|(key, what)| Mistake::new(key, what, help).needing(&needs)));
        }
        mistakes.extend(self.check_limits());
        let ways = self.ways(endpoints, &mut mistakes);
        let headers = self.headers(&mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Plan {
            headers,
            ways,
            compression: self.compression,
            request_bytes: self.request_bytes,
            concurrency: self.concurrency,
            timeout: self.timeout,
            tls: self.tls.clone(),
        })
    }

    fn check_limits(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            let what = format!("{} is not between 1 and {CONCURRENCY_MAX}", self.concurrency);
            mistakes.push(Mistake::new("concurrency", what, "leave it out for 4"));
        }
        if !(1..=REQUEST_BYTES_MAX).contains(&self.request_bytes) {
            let what = format!("{} bytes are not between 1 and {REQUEST_BYTES_MAX}", self.request_bytes);
            mistakes.push(Mistake::new("request_bytes", what, "leave it out for 1MiB"));
        }
        if self.timeout.is_zero() {
            mistakes.push(Mistake::new("timeout", "no time at all", "write it like 30s"));
        }
        mistakes
    }

    fn ways(&self, endpoints: Vec<Endpoint>, mistakes: &mut Vec<Mistake>) -> Vec<Way> {
        let help = "write it like http://user:password@proxy.example.com:3128, or `none` to go without one";
        let mut noted = |proxy: Result<Option<Proxy>, String>| {
            proxy.unwrap_or_else(|what| {
                mistakes.push(Mistake::new("proxy", what, help));
                None
            })
        };
        let given = self.proxy.as_ref().map(|proxy| match proxy.expose().trim() {
            "none" => None,
            url => noted(Proxy::parse(url).map(Some)),
        });
        let all = endpoints.into_iter().map(|endpoint| {
            let of_environment = || of_environment(&endpoint, &|name| std::env::var(name).ok());
            let proxy = given.clone().unwrap_or_else(|| noted(of_environment()));
            Way { endpoint, proxy }
        });
        all.collect()
    }

    fn headers(&self, mistakes: &mut Vec<Mistake>) -> HeaderMap {
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
            Some(Err(what)) => mistakes.push(Mistake::new("auth", what, "correct the credentials")),
            None => {}
        }
        headers
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
