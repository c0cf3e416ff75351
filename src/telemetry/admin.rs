//! The admin endpoint: `/livez`, `/readyz` and `/metrics` on the first shard.
//!
//! Guarantees: if the address is in use, this is reported at once, and if it is not free within a few seconds, the process ends.
//! The endpoint also serves while the engine drains. However many ask for metrics, this takes little of the shard's time: see
//! [`super::scrapes`]. Requests that a web page may have sent are refused. Changes nothing: it only reads counters.

use crate::net::host::Hosts;
use crate::net::http::{Answer, serve};
use crate::telemetry::metrics::Exporter;
use crate::telemetry::scrapes::{Next, Scrapes};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tailwater_shards::env::Env;
use tailwater_shards::glommio_env::{GlommioEnv, Listener};
use tailwater_shards::plugin::LocalFuture;
use tailwater_shards::service::Service;
use tailwater_shards::stop::Stop;

/// The admin endpoint as a service of a shard.
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The hosts that clients may name, in addition to the usual ones.
    pub hosts: Hosts,
    /// The metrics to show; set once the engine is created.
    pub exporter: Arc<OnceLock<Exporter>>,
    /// Called with the bound address, which differs from `listen` if its port is zero.
    pub bound: Arc<dyn Fn(SocketAddr) + Send + Sync>,
}

/// What requests are answered from.
struct Desk {
    env: GlommioEnv,
    hosts: Hosts,
    exporter: Arc<OnceLock<Exporter>>,
    stop: Stop,
    scrapes: RefCell<Scrapes>,
}

impl Service<GlommioEnv> for Admin {
    fn run(&self, env: GlommioEnv, stop: Stop) -> LocalFuture<'static, ()> {
        let (listen, hosts, bound) = (self.listen, self.hosts.clone(), self.bound.clone());
        let exporter = self.exporter.clone();
        Box::pin(async move {
            let listener = match bind(&env, listen).await {
                Ok(listener) => listener,
                Err(error) => {
                    let right = match error.kind() {
                        io::ErrorKind::PermissionDenied if listen.port() < 1024 => {
                            "give the process the capability CAP_NET_BIND_SERVICE, which ports below 1,024 need \
                             (AmbientCapabilities= and CapabilityBoundingSet= of systemd; docs/security.md), "
                        }
                        _ => "",
                    };
                    return stop.fail(format!(
                        "admin endpoint: cannot listen on {listen}: {error}; {right}choose another address with admin.listen, or \
                         turn it off with admin: false"
                    ));
                }
            };
            bound(listener.local_address());
            let desk = Rc::new(Desk { env: env.clone(), hosts, exporter, stop, scrapes: RefCell::default() });
            let handler = move |request, reached| {
                let desk = desk.clone();
                async move { desk.answer(&request, reached).await }
            };
            serve(env, listener, handler).await;
        })
    }
}

/// How long to retry an address that is in use: the kernel closes the sockets of a killed process only when it tears down its
/// io_uring instances, which may be after the process was reaped.
const IN_USE: Duration = Duration::from_secs(5);
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

async fn bind(env: &GlommioEnv, address: SocketAddr) -> io::Result<Listener> {
    let deadline = env.now().after(IN_USE);
    let mut told = false;
    loop {
        match Listener::bind(env, address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && env.now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(%address, "admin endpoint: the address is in use; retrying for {IN_USE:?}");
                }
                env.sleep(IN_USE_PAUSE).await;
            }
            done => return done,
        }
    }
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>, reached: Option<IpAddr>) -> Answer {
        if let Err((status, words)) = self.hosts.check(request, reached) {
            return text(status, words);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n");
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/metrics" => text(StatusCode::OK, self.metrics().await),
            _ => text(StatusCode::NOT_FOUND, "not found; the paths are /livez, /readyz and /metrics\n"),
        }
    }

    fn readiness(&self) -> Answer {
        let exporter = self.exporter.get();
        let (status, word) = match exporter.is_some_and(Exporter::is_ready) && !self.stop.is_asked() {
            true => (StatusCode::OK, "ok\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or draining\n"),
        };
        text(status, word.to_owned() + &exporter.map(Exporter::outputs_state).unwrap_or_default())
    }

    async fn metrics(&self) -> Bytes {
        // Empty before the engine exists.
        let Some(exporter) = self.exporter.get() else { return Bytes::new() };
        let asked = self.env.now();
        loop {
            let now = self.env.now();
            let next = self.scrapes.borrow().next(asked, now);
            match next {
                Next::Send(text) => return text,
                Next::Wait(time) => self.env.sleep(time).await,
                Next::Make => {
                    let text = exporter.text().into();
                    self.scrapes.borrow_mut().made(now, self.env.now(), text);
                }
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
