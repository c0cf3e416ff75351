//! A small HTTP/1.1 server on a shard: hyper over the shard's own connections.
//!
//! Guarantees: the number and duration of connections and the size of headers are limited; request bodies are not read. Does not
//! know paths: the handler does. Does not support TLS.

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

/// The most connections that are served at a time; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 64;

/// The longest duration of a connection, whether active or idle: monitoring systems reconnect without problems.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// The largest request line plus headers, in bytes.
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
                tracing::warn!(%error, "cannot accept a connection");
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
                // hyper's timers must be Send; instead, the duration of the whole connection is limited.
                .header_read_timeout(None)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(HyperStream(connection), service);
            // Errors of a client's connection are not reported.
            or(async { drop(serving.await) }, timer.sleep(CONNECTION_LIFE)).await;
            open.set(open.get() - 1);
        });
    }
}
