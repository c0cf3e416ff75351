//! Sockets of a shard: a listener whose accept is never cancelled, connects that wait in the ring and are not cancelled either,
//! and connections that send at once.
//!
//! Guarantees: binding fails if another process listens on the address (the port is not shared). An accepted connection is
//! returned or closed, never leaked, even if the wait for it is abandoned. Every connection has Nagle's algorithm disabled,
//! acknowledges the response to a flushed message at once, and is closed on exec. At most [`BACKLOG`] connections wait here for
//! the product.
//!
//! Does not encrypt, has no timeouts, and does not limit what a peer sends. The product does that.

use super::disk::counted;
use super::{GlommioEnv, kernel_error};
use crate::env::Env;
use crate::signal::Signal;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Maximum number of accepted connections that wait. Further connections wait in the kernel, and then the peers wait.
pub const BACKLOG: usize = 8;
/// The pause after an accept that failed for lack of descriptors or memory, which become available when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The shortest timeout of a connect.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// A listening socket of one shard.
pub struct Listener {
    queue: Rc<Queue>,
    local: SocketAddr,
    socket: OwnedFd,
}

#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<Connection>>,
    state: RefCell<State>,
    arrived: Signal,
    taken: Signal,
}

#[derive(Default)]
struct State {
    stopped: bool,
    ended: Option<io::Error>,
}

impl Listener {
    /// Listens on `address` and starts accepting. Port zero selects a free port, see [`Listener::local_address`].
    pub fn bind(env: &GlommioEnv, address: SocketAddr) -> io::Result<Listener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        let socket = listener.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is a listening socket, owned; ownership goes to the new object.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        let queue = Rc::new(Queue::default());
        env.spawn("accept", accept(env.clone(), listener, Rc::clone(&queue)));
        Ok(Listener { queue, local, socket })
    }

    /// The address on which it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The next connection. The call may be abandoned at any time: the connection stays for the next call. After the listener
    /// was shut down, it fails as soon as the connections accepted before have been returned. Only one task may wait at a time.
    pub async fn accept(&self) -> io::Result<Connection> {
        loop {
            let next = self.queue.waiting.borrow_mut().pop_front();
            if let Some(connection) = next {
                self.queue.taken.notify();
                return Ok(connection);
            }
            if let Some(error) = &self.queue.state.borrow().ended {
                return Err(io::Error::new(error.kind(), error.to_string()));
            }
            self.queue.arrived.wait().await;
        }
    }

    /// Shuts the listener down: new peers are refused, and a waiting [`Listener::accept`] fails.
    pub fn shutdown(&self) {
        self.queue.state.borrow_mut().stopped = true;
        self.queue.taken.notify();
        shutdown(self.socket.as_fd(), Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shutdown();
        self.queue.waiting.borrow_mut().clear();
    }
}

/// Accepts until the listener is shut down. This future is never dropped while an accept is running.
async fn accept(env: GlommioEnv, listener: TcpListener, queue: Rc<Queue>) {
    let ended = loop {
        if queue.state.borrow().stopped {
            break io::ErrorKind::NotConnected.into();
        }
        if queue.waiting.borrow().len() >= BACKLOG {
            queue.taken.wait().await;
            continue;
        }
        let accepted = counted(listener.accept().await.map_err(kernel_error));
        match accepted.and_then(|stream| Connection::prepare(&env, stream)) {
            // Nothing will use this connection.
            Ok(_) if queue.state.borrow().stopped => {}
            Ok(connection) => {
                env.mark_reactor_turn();
                queue.waiting.borrow_mut().push_back(connection);
                queue.arrived.notify();
            }
            Err(_) if queue.state.borrow().stopped => {}
            Err(error) if is_passing(&error) => env.sleep(ACCEPT_PAUSE).await,
            Err(error) => break error,
        }
    };
    queue.state.borrow_mut().ended = Some(ended);
    queue.arrived.notify();
}

/// Whether another accept may succeed: the peer is gone already, or the machine temporarily lacks a resource.
fn is_passing(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK | libc::EOPNOTSUPP))
}

/// Connects in a task of its own, which ends when the kernel has answered, or after `timeout`: a pending connect must not be
/// cancelled. If nothing waits for the connection any more, it is closed. No thread waits.
pub(super) async fn connect(env: GlommioEnv, address: SocketAddr, timeout: Duration) -> io::Result<Connection> {
    let (outcome, ended) = (Rc::new(RefCell::new(None)), Rc::new(Signal::new()));
    let (fill, end) = (Rc::clone(&outcome), Rc::clone(&ended));
    let connecting = env.clone();
    env.spawn("connect", async move {
        // The library takes no timeout of zero.
        let stream = TcpStream::connect_timeout(address, timeout.max(CONNECT_TIMEOUT_MIN)).await;
        let stream = counted(stream.map_err(kernel_error));
        connecting.mark_reactor_turn();
        *fill.borrow_mut() = Some(stream.and_then(|stream| Connection::prepare(&connecting, stream)));
        end.notify();
    });
    loop {
        let connected = outcome.borrow_mut().take();
        if let Some(connected) = connected {
            return connected;
        }
        ended.wait().await;
    }
}

/// A connected TCP stream, for the futures-io traits. One task reads, one task writes.
///
/// A peer that answers at once can keep a reader busy forever, and protocol libraries know no slices. A read therefore gives
/// the reactor a turn when the slice is used up.
pub struct Connection {
    env: GlommioEnv,
    stream: TcpStream,
    /// The last read found nothing: the next bytes come from a turn of the reactor.
    waiting: bool,
    /// Something was written since the last flush.
    written: bool,
    turn: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Ends a connection from outside the task that reads it.
#[derive(Clone)]
pub struct Closer {
    socket: Rc<OwnedFd>,
}

impl Closer {
    /// Ends both directions: a pending read completes with the end of the stream.
    pub fn close(&self) {
        shutdown(self.socket.as_fd(), Shutdown::Both);
    }
}

impl Connection {
    fn prepare(env: &GlommioEnv, stream: TcpStream) -> io::Result<Connection> {
        // Without it, a small write waits 40 ms for the peer's acknowledgement.
        stream.set_nodelay(true).map_err(kernel_error)?;
        // SAFETY: takes a descriptor that is open, and a flag. The library accepts without it.
        if unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Connection { env: env.clone(), stream, waiting: false, written: false, turn: None })
    }

    /// The address of the peer.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr().map_err(kernel_error)
    }

    /// The address that the peer reached.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr().map_err(kernel_error)
    }

    /// Whether the kernel acknowledges the next packet when it comes.
    #[cfg(test)]
    pub fn acknowledges_at_once(&self) -> bool {
        let (mut on, mut length): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: takes a descriptor that is open, and writes at most `length` bytes to a number, and a length, that outlive the call.
        let failed = unsafe {
            libc::getsockopt(
                self.stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_QUICKACK,
                (&raw mut on).cast(),
                &raw mut length,
            )
        };
        failed == 0 && on == 1
    }

    /// A handle that ends this connection while a task reads it.
    pub fn closer(&self) -> io::Result<Closer> {
        Ok(Closer { socket: Rc::new(borrow(self.stream.as_raw_fd(), &self.stream).try_clone_to_owned()?) })
    }
}

/// The descriptor of `_owner`, for as long as that is borrowed.
fn borrow<T>(descriptor: RawFd, _owner: &T) -> BorrowedFd<'_> {
    // SAFETY: the owner keeps its descriptor open, and the result does not outlive the borrow of the owner.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

/// Has the next packets acknowledged when they come: a peer with Nagle's delay that sends an answer in two pieces holds back the
/// second one until then. The kernel forgets this when something is written.
fn acknowledge_at_once(socket: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: takes a descriptor that is open, and reads `length` bytes of a number that outlives the call. A failure costs time only.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, (&raw const on).cast(), length);
    }
}

fn shutdown(socket: BorrowedFd<'_>, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes a descriptor that is open, and a number. It fails where the socket has ended already.
    unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.waiting && self.turn.is_none() && self.env.slice_used() {
            self.turn = Some(Box::pin(self.env.turn()));
        }
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(context));
            self.turn = None;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && self.waiting {
            self.env.mark_reactor_turn();
        }
        self.waiting = read.is_pending();
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() && std::mem::take(&mut self.written) {
            acknowledge_at_once(borrow(self.stream.as_raw_fd(), &self.stream));
        }
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
