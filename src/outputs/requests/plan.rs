//! The plan of a request output, made from the keys that all of them share.
//!
//! Guarantees: a mistake is reported with its key, and no message contains a credential. Reads no file before
//! [`Plan::secured`], except in [`RequestSettings::check_files`].

use super::super::file::compress::Compression;
use crate::codec::secret::{Url, has_credential};
use crate::codec::template::is_template;
use crate::config::component::{Mistake, TrustedFile, UNREAD_HELP};
use crate::net::auth::Auth;
use crate::net::client::Way;
use crate::net::endpoint::Endpoint;
use crate::net::proxy::{Proxy, of_environment};
use crate::net::secrets::Secrets;
use crate::net::secured::Secured;
use crate::net::tls::Tls;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tailwater_shards::env::{Disk, Env};
use tailwater_shards::plugin::PluginError;

/// Maximum number of concurrent requests, whatever is configured.
const CONCURRENCY_MAX: u32 = 64;

/// Maximum size of a request, whatever is configured.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// The keys, borrowed from the settings.
pub struct RequestSettings<'a> {
    /// The key that holds the URLs.
    pub url_key: &'static str,
    /// Whether it holds a list of them.
    pub is_list: bool,
    /// The URLs.
    pub urls: &'a [Url],
    /// The credentials.
    pub auth: &'a Option<Auth>,
    /// The TLS settings.
    pub tls: &'a Option<Tls>,
    /// The URL of a proxy, or `none`. If it is not set, the environment decides.
    pub proxy: &'a Option<Url>,
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

/// A plan, or all mistakes in the settings.
pub type Mistaken<T> = Result<T, Vec<Mistake>>;

/// What ends an output whose settings make no sense.
pub fn fatal(mistakes: Vec<Mistake>) -> PluginError {
    let all: Vec<String> = mistakes.into_iter().map(|mistake| mistake.what).collect();
    PluginError::Fatal(all.join("; "))
}

impl RequestSettings<'_> {
    /// Problems with the TLS files, if a URL uses TLS. May block.
    pub fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let is_secure = |url: &Url| Endpoint::parse(url.expose()).is_ok_and(|endpoint| endpoint.secure);
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
        all.into_iter()
            .map(|(key, what)| {
                let help = help(&what);
                Mistake::new(key, what, help)
            })
            .collect()
    }

    /// Credentials that are sent in the clear, and servers of which only some use TLS. `in_headers` tells whether headers hold
    /// credentials. In a URL, only values with a telling name are known to be some.
    pub fn doubts(&self, in_headers: bool) -> Vec<Mistake> {
        let endpoints = self
            .urls
            .iter()
            .enumerate()
            .filter_map(|(number, url)| Some((number, Endpoint::parse(url.expose()).ok()?)));
        let endpoints: Vec<(usize, Endpoint)> = endpoints.collect();
        let plain = || endpoints.iter().filter(|(_, endpoint)| !endpoint.secure);
        let sends = |endpoint: &Endpoint| self.auth.is_some() || in_headers || has_credential(&endpoint.path);
        let mut doubts = Vec::new();
        if let Some((number, endpoint)) = plain().find(|(_, endpoint)| sends(endpoint) && !endpoint.is_loopback()) {
            let what = format!("credentials are sent without encryption to {}", endpoint.name());
            let help =
                "use https://, or a server on this host; whoever is between can read the credentials and all events";
            doubts.push(Mistake::new(self.url_key(*number), what, help));
        }
        if let Some((number, endpoint)) =
            plain().next().filter(|_| endpoints.iter().any(|(_, endpoint)| endpoint.secure))
        {
            let what =
                format!("{} is used without encryption, and other endpoints of this output with it", endpoint.name());
            let help = "use https:// for all: which events go to which endpoint is not certain";
            doubts.push(Mistake::new(self.url_key(*number), what, help));
        }
        doubts
    }

    /// The files of `tls`, if a URL uses TLS.
    pub fn trusted_files(&self) -> Vec<TrustedFile> {
        let is_secure = self.urls.iter().any(|url| Endpoint::parse(url.expose()).is_ok_and(|endpoint| endpoint.secure));
        let Some(tls) = self.tls.as_ref().filter(|_| is_secure) else { return Vec::new() };
        let all = [
            ("tls.ca_file", &tls.ca_file, false),
            ("tls.cert_file", &tls.cert_file, false),
            ("tls.key_file", &tls.key_file, true),
        ];
        let file = |(key, path, is_secret): (&'static str, &Option<PathBuf>, bool)| {
            Some(TrustedFile { key, path: path.clone()?, is_secret })
        };
        all.into_iter().filter_map(file).collect()
    }

    /// The key of a URL.
    pub fn url_key(&self, number: usize) -> String {
        if self.is_list { format!("{}.{number}", self.url_key) } else { self.url_key.to_owned() }
    }

    /// Checks the keys and makes the plan.
    pub fn plan(&self) -> Mistaken<Plan> {
        let mut mistakes = Vec::new();
        if self.urls.is_empty() {
            let help = "give at least one endpoint, like http://127.0.0.1:9200";
            mistakes.push(Mistake::new(self.url_key, "the list is empty", help));
        }
        let mut endpoints = Vec::new();
        for (number, url) in self.urls.iter().map(Url::expose).enumerate() {
            let help = "write it like https://logs.example.com:8443/path";
            if is_template(url) {
                let help = "write the whole URL; for several, write one output for each and route events with `when`";
                mistakes.push(Mistake::new(self.url_key(number), "a URL takes no fields of events", help));
                continue;
            }
            match Endpoint::parse(url) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(what) => mistakes.push(Mistake::new(self.url_key(number), what, help)),
            }
        }
        if let Some(tls) = self.tls {
            let are_plain = endpoints.iter().all(|endpoint| !endpoint.secure) && endpoints.len() == self.urls.len();
            if are_plain && !endpoints.is_empty() {
                let help = "remove `tls`, or use https://";
                mistakes.push(Mistake::new("tls", "no URL begins with https://", help).needing(&[self.url_key]));
            }
            let help = "set the keys that belong together, or remove them";
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
            mistakes.push(Mistake::new("concurrency", what, "remove the key to use the default, 4"));
        }
        if !(1..=REQUEST_BYTES_MAX).contains(&self.request_bytes) {
            let what = format!("{} bytes are not between 1 and {REQUEST_BYTES_MAX}", self.request_bytes);
            mistakes.push(Mistake::new("request_bytes", what, "remove the key to use the default, 1MiB"));
        }
        if self.timeout.is_zero() {
            mistakes.push(Mistake::new("timeout", "it must be more than 0", "write it like 30s"));
        }
        mistakes
    }

    fn ways(&self, endpoints: Vec<Endpoint>, mistakes: &mut Vec<Mistake>) -> Vec<Way> {
        let help = "write it like http://user:password@proxy.example.com:3128, or `none` to use no proxy";
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
    /// The secret values that requests carry.
    pub fn secrets(&self) -> Secrets {
        let proxies = self.ways.iter().filter_map(|way| way.proxy.as_ref()?.authorization.clone());
        let proxies: Vec<HeaderMap> =
            proxies.map(|value| HeaderMap::from_iter([(PROXY_AUTHORIZATION, value)])).collect();
        let paths = self.ways.iter().map(|way| way.endpoint.path.as_str());
        Secrets::of(proxies.iter().chain([&self.headers]), paths)
    }

    /// Reads the TLS files; none if no endpoint uses TLS.
    pub async fn secured<E: Env>(&self, env: &E) -> Result<Option<Rc<Secured>>, String> {
        if !self.ways.iter().any(|way| way.endpoint.secure) {
            return Ok(None);
        }
        let secured = Secured::open(self.tls.clone().unwrap_or_default(), env).await?;
        Ok(Some(Rc::new(secured)))
    }
}
