//! A small HTTP/1.1 server on a shard: hyper over the shard's own connections.
//!
//! Guarantees: the number of connections, the time that each may take, and the size of headers are limited, and a new client
//! always gets in: see [`super::places`]. Request bodies are not read. An answer that several clients get is in memory once.
//! Does not know paths: the handler does. Does not support TLS.

use super::places::{PLACES_MAX, Peer, Places};
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
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};
use tailwater_shards::glommio_env::{Connection, GlommioEnv, Listener};
use tailwater_shards::signal::Signal;

/// The most connections that are served at a time.
pub const CONNECTIONS_MAX: usize = PLACES_MAX;

/// The largest request line plus headers, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

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
        let peer = Peer::of(connection.peer_address().ok().map(|peer| peer.ip()));
        let (number, changed) = room.places.borrow_mut().take(peer, env.now());
        Seat { env: env.clone(), room: room.clone(), number, changed }
    }

    /// Tells the place what happens now.
    fn tell(&self, what: impl FnOnce(&mut Places, u64, Monotonic)) {
        what(&mut self.room.places.borrow_mut(), self.number, self.env.now());
    }

    /// Completes when the connection must end.
    async fn over(&self) {
        loop {
            let (ends_at, now) = (self.room.places.borrow().ends_at(self.number), self.env.now());
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
pub async fn serve<H, F>(env: GlommioEnv, listener: Listener, handler: H)
where
    H: Fn(Request<Incoming>, Option<IpAddr>) -> F + Clone + 'static,
    F: Future<Output = Answer> + 'static,
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
async fn attend<H, F>(connection: Connection, seat: Rc<Seat>, handler: H)
where
    H: Fn(Request<Incoming>, Option<IpAddr>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    let reached = connection.local_address().ok().map(|address| address.ip());
    let answering = seat.clone();
    let service = service_fn(move |request| {
        answering.tell(Places::asked);
        let (answer, answering) = (handler(request, reached), answering.clone());
        async move {
            let answer = answer.await;
            let bytes = answer.body().size_hint().lower();
            answering.tell(|places, number, now| places.answers(number, bytes, now));
            Ok::<_, Infallible>(answer)
        }
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

/// A connection that tells its place what happens on it.
struct Watched {
    stream: Connection,
    seat: Rc<Seat>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if length > 0 {
            self.seat.tell(Places::received);
        }
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// hyper flushes when everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.seat.tell(Places::flushed);
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
