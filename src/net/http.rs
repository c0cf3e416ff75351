//! A small HTTP/1.1 server on a shard: hyper over the shard's own connections.
//!
//! Guarantees: the number of connections, the time that each may take, and the size of headers are limited, and a new client
//! always gets in: see [`super::places`]. Request bodies are not read. The bytes of an answer are in memory once, however many
//! clients read it. Does not know paths: the handler does. Does not support TLS.

use super::places::{PLACES_MAX, Places};
use super::stream::HyperStream;
use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tailwater_shards::env::Env;
use tailwater_shards::glommio_env::{Connection, GlommioEnv, Listener};
use tailwater_shards::signal::Signal;

/// The most connections that are served at a time.
pub const CONNECTIONS_MAX: usize = PLACES_MAX;

/// The largest request line plus headers, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The most bytes that are written at once. The kernel's buffer may be full, and then the executor keeps a copy of them.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// The answer to a request.
pub type Answer = Response<Full<Bytes>>;

/// The connections of a server.
#[derive(Default)]
struct Room {
    places: RefCell<Places>,
    /// One of them ended.
    left: Signal,
}

/// The place of one connection, for as long as it exists.
struct Seat {
    env: GlommioEnv,
    room: Rc<Room>,
    number: u64,
    changed: Rc<Signal>,
}

impl Seat {
    fn take(env: &GlommioEnv, room: &Rc<Room>, connection: &Connection) -> Seat {
        let is_near = connection.peer_address().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        let (number, changed) = room.places.borrow_mut().take(is_near, env.now());
        Seat { env: env.clone(), room: room.clone(), number, changed }
    }

    /// Completes when the connection must end.
    async fn over(&self) {
        loop {
            let ends_at = self.room.places.borrow().ends_at(self.number);
            let now = self.env.now();
            let Some(ends_at) = ends_at.filter(|ends_at| *ends_at > now) else { return };
            or(self.env.sleep(ends_at.since(now)), self.changed.wait()).await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.places.borrow_mut().leave(self.number);
        self.room.left.notify();
    }
}

/// Serves until the listener is shut down. The handler also gets the address that the client reached.
pub async fn serve<H>(env: GlommioEnv, listener: Listener, handler: H)
where
    H: Fn(&Request<Incoming>, Option<IpAddr>) -> Answer + Clone + 'static,
{
    let room = Rc::new(Room::default());
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
        let seat = Seat::take(&env, &room, &connection);
        env.spawn("http connection", attend(connection, Rc::new(seat), handler.clone()));
        // The connection that gave way for this one ends first.
        while room.places.borrow().count() > CONNECTIONS_MAX {
            room.left.wait().await;
        }
    }
}

/// Serves one connection.
async fn attend<H>(connection: Connection, seat: Rc<Seat>, handler: H)
where
    H: Fn(&Request<Incoming>, Option<IpAddr>) -> Answer + 'static,
{
    let reached = connection.local_address().ok().map(|address| address.ip());
    let answering = seat.clone();
    let service = service_fn(move |request| {
        let answer = handler(&request, reached);
        let bytes = answer.body().size_hint().lower();
        answering.room.places.borrow_mut().answers(answering.number, bytes, answering.env.now());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let serving = http1::Builder::new()
        // hyper's timers must be Send; the place has deadlines instead.
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES_MAX)
        // Without it, each connection has a copy of its answer.
        .writev(true)
        .serve_connection(HyperStream(Watched { stream: connection, seat: seat.clone() }), service);
    // Errors of a client's connection are not reported.
    or(async { drop(serving.await) }, seat.over()).await;
}

/// A stream that reports what happens on it.
struct Watched<T> {
    stream: T,
    seat: Rc<Seat>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if length > 0 {
            self.seat.room.places.borrow_mut().received(self.seat.number, self.seat.env.now());
        }
        Poll::Ready(Ok(length))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, &bytes[..bytes.len().min(WRITE_BYTES_MAX)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.seat.room.places.borrow_mut().flushed(self.seat.number, self.seat.env.now());
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
