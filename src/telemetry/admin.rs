//! The admin endpoint: `/livez`, `/readyz` and `/metrics` on the first shard.
//!
//! Guarantees: if the address is in use, this is reported at once, and if it is not free within a few seconds, the process ends.
//! The endpoint also serves while the engine drains. Changes nothing: it only reads counters.

use crate::net::http::{Answer, serve};
use crate::telemetry::metrics::Exporter;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tailwater_shards::env::Env;
use tailwater_shards::glommio_env::{GlommioEnv, Listener};
use tailwater_shards::plugin::LocalFuture;
use tailwater_shards::shard::Service;
use tailwater_shards::stop::Stop;

/// The admin endpoint as a service of a shard.
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The metrics to show; set once the engine is created.
    pub exporter: Arc<OnceLock<Exporter>>,
    /// Called with the bound address, which differs from `listen` if its port is zero.
    pub bound: Arc<dyn Fn(SocketAddr) + Send + Sync>,
}

impl Service<GlommioEnv> for Admin {
    fn run(&self, env: GlommioEnv, stop: Stop) -> LocalFuture<'static, ()> {
        let (listen, exporter, bound) = (self.listen, self.exporter.clone(), self.bound.clone());
        Box::pin(async move {
            let listener = match bind(&env, listen).await {
                Ok(listener) => listener,
                Err(error) => {
                    return stop.fail(format!(
                        "admin endpoint: cannot listen on {listen}: {error}; choose another address with admin.listen, or \
                         turn it off with admin: false"
                    ));
                }
            };
            bound(listener.local_address());
            let handler = move |request| {
                let answer = answer(&request, exporter.get(), &stop);
                async move { answer }
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

fn answer(request: &Request<Incoming>, exporter: Option<&Exporter>, stop: &Stop) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n".to_owned());
    }
    let ready = exporter.is_some_and(Exporter::is_ready) && !stop.is_asked();
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let (status, word) = match ready {
                true => (StatusCode::OK, "ok\n"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or draining\n"),
            };
            text(status, word.to_owned() + &exporter.map(Exporter::outputs_state).unwrap_or_default())
        }
        "/metrics" => text(StatusCode::OK, exporter.map(Exporter::text).unwrap_or_default()),
        path => text(StatusCode::NOT_FOUND, format!("{path}: not found; the paths are /livez, /readyz and /metrics\n")),
    }
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
