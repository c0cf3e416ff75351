//! A small HTTP/1.1 server on a shard: hyper over the shard's own connections.
//!
//! Guarantees: connections, header bytes and the time of each connection are bounded; request bodies are not read. Does not
//! know paths: the handler does. Carries no TLS.

use super::stream::HyperStream;
use futures_lite::future::or;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tailwater_shards::env::Env;
use tailwater_shards::glommio_env::{GlommioEnv, Listener};

/// Connections served at a time; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 64;

/// Longest life of a connection, a silent one too: monitoring systems reconnect without noticing.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// Bytes of request line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The answer to a request.
pub type Answer = Response<Full<Bytes>>;

/// Serves until the listener is shut down.
pub async fn serve<H, F>(env: GlommioEnv, listener: Listener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + 'static,
    F: Future<Output = Answer> + 'static,
{
    let open = Rc::new(Cell::new(0));
    loop {
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                env.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if open.get() >= CONNECTIONS_MAX {
            continue;
        }
        open.set(open.get() + 1);
        let (open, handler, timer) = (open.clone(), handler.clone(), env.clone());
        env.spawn("http connection", async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let serving = http1::Builder::new()
                // Timers of hyper must be Send; the life of the whole connection is bounded instead.
                .header_read_timeout(None)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(HyperStream(connection), service);
            // How a client ends its connection is its own business.
            or(async { drop(serving.await) }, timer.sleep(CONNECTION_LIFE)).await;
            open.set(open.get() - 1);
        });
    }
}
