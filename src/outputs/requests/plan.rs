//! The plan of a request output, made from the keys that all of them share.
//!
//! Guarantees: a mistake is reported with its key, and no message contains a credential. Reads no file before
//! [`Plan::secured`], except in [`RequestSettings::check_files`].

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

/// Maximum number of concurrent requests, whatever is configured.
const CONCURRENCY_MAX: u32 = 64;

/// Maximum size of a request, whatever is configured.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// The keys, borrowed from the settings.
pub struct RequestSettings<'a> {
    /// The key that holds the URLs.
    pub url_key: &'static str,
    /// The URLs.
    pub urls: &'a [String],
    /// The credentials.
    pub auth: &'a Option<Auth>,
    /// The TLS settings.
    pub tls: &'a Option<Tls>,
    /// The URL of a proxy, or `none`. If it is not set, the environment decides.
    pub proxy: &'a Option<Secret>,
    /// The content type of bodies.
    pub content_type: &'static str,
    /// How bodies are compressed.
    pub compression: Compression,
    /// Maximum size of a request.
    pub request_bytes: u64,
    /// Maximum number of concurrent requests.
    pub concurrency: u32,
    /// Maximum time of a request.
    pub timeout: Duration,
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The endpoints and how to reach them.
    pub ways: Vec<Way>,
    /// The headers of all requests.
    pub headers: HeaderMap,
    /// How bodies are compressed.
    pub compression: Compression,
    /// Maximum size of a request.
    pub request_bytes: u64,
    /// Maximum number of concurrent requests.
    pub concurrency: u32,
    /// Maximum time of a request.
    pub timeout: Duration,
    tls: Option<Tls>,
}

/// A plan, or a mistake in the settings.
pub type Mistaken<T> = Result<T, Mistake>;

/// A mistake at a key.
pub fn mistake<T>(key: &str, what: impl Into<String>, help: &str) -> Mistaken<T> {
    Err(Mistake { key: key.to_owned(), what: what.into(), help: help.to_owned() })
}

impl RequestSettings<'_> {
    /// Problems with the TLS files, if a URL uses TLS. May block.
    pub fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let is_secure = |url: &String| Endpoint::parse(url).is_ok_and(|endpoint| endpoint.secure);
        if !self.urls.iter().any(is_secure) {
            return Vec::new();
        }
        let all = self.tls.clone().unwrap_or_default().check_files(disk);
        let help = |what: &str| match what.contains(" cannot be read: ") {
            true => UNREAD_HELP,
            false => {
                "certificates and keys are PEM files: the CA in `ca_file`, a certificate and its own key in the others"
            }
        };
        all.into_iter().map(|(key, what)| Mistake { key: key.to_owned(), help: help(&what).to_owned(), what }).collect()
    }

    /// Checks the keys and makes the plan.
    pub fn plan(&self) -> Mistaken<Plan> {
        if self.urls.is_empty() {
            return mistake(
                self.url_key,
                "the list is empty",
                "give at least one endpoint, like http://127.0.0.1:9200",
            );
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
                return mistake("tls", "no URL begins with https://", "remove `tls`, or use https://");
            }
            if let Err((key, what)) = tls.check() {
                return mistake(key, what, "set the keys that belong together, or remove them");
            }
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            let what = format!("{} is not between 1 and {CONCURRENCY_MAX}", self.concurrency);
            return mistake("concurrency", what, "remove the key to use the default, 4");
        }
        if !(1..=REQUEST_BYTES_MAX).contains(&self.request_bytes) {
            let what = format!("{} bytes are not between 1 and {REQUEST_BYTES_MAX}", self.request_bytes);
            return mistake("request_bytes", what, "remove the key to use the default, 1MiB");
        }
        if self.timeout.is_zero() {
            return mistake("timeout", "it must be more than 0", "write it like 30s");
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
        let help = "write it like http://user:password@proxy.example.com:3128, or `none` to use no proxy";
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
    /// Reads the TLS files; none if no endpoint uses TLS.
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
