//! An HTTP/1.1 client of one endpoint that keeps and reuses connections.
//!
//! Guarantees: every request ends within its timeout, which includes connecting and reading the body of the answer. A request
//! that was not sent because a kept connection had been closed is sent again over a new one; any other failure is returned to the
//! caller. A server that sends interim answers or headers without end loses its connection ([`super::meter`]), and the request
//! counts as failed. At most [`IDLE_MAX`] connections are kept, none for longer than [`IDLE_LIFE`] without use. Names are resolved for each
//! connection, off the executor, and their addresses tried in turn. With a proxy, an HTTPS endpoint is reached through a tunnel,
//! any other by requests to the proxy with the complete URL; the proxy resolves the endpoint's name. Does not follow redirects
//! and does not interpret answers.

use super::endpoint::Endpoint;
use super::meter::{AHEAD_BYTES_MAX, INTERIM_MAX, Meter, Metered};
use super::proxy::Proxy;
use super::reply::{self, BodyError, Reply};
use super::secrets::Secrets;
use super::secured::Secured;
use super::stream::HyperStream;
use super::tls::server_name;
use super::trust::tls_error;
use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::ext::on_informational;
use hyper::header::{HOST, HeaderMap, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode, Uri};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};

/// The most idle connections that are kept.
const IDLE_MAX: usize = 64;

/// How long an idle connection is kept: servers and middleboxes drop silent ones.
const IDLE_LIFE: Duration = Duration::from_secs(30);

/// The timeout for connecting to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;

/// The most bytes of status line and headers, and of the buffer for a body.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why there is no answer. A retry may succeed in every case.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Could not connect, so nothing was sent.
    #[error("{endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: String,
        /// The error of the system or of TLS.
        source: io::Error,
    },
    /// It took too long; the server may have processed the request.
    #[error("{endpoint}: no answer within {timeout:?}")]
    Timeout {
        /// The endpoint.
        endpoint: String,
        /// The timeout.
        timeout: Duration,
    },
    /// The connection failed; the server may have processed the request.
    #[error("{endpoint}: {source}")]
    Broken {
        /// The endpoint.
        endpoint: String,
        /// The error of the protocol.
        source: hyper::Error,
    },
    /// The connection was closed because of what the server sent instead of an answer. It may have processed the request.
    #[error(
        "{endpoint}: the server sent more than {INTERIM_MAX} interim answers (HTTP 1xx) or {AHEAD_BYTES_MAX} bytes before its \
         answer, so the connection was closed; check the server, and what is between"
    )]
    Ahead {
        /// The endpoint.
        endpoint: String,
    },
    /// The body of the answer could not be read.
    #[error("{endpoint}: {source}")]
    Body {
        /// The endpoint.
        endpoint: String,
        /// Why.
        source: BodyError,
    },
}

/// What all requests to an endpoint have in common.
#[derive(Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: Uri,
    /// All headers except `Host` and those that the protocol itself adds.
    pub headers: HeaderMap,
}

/// Gives the reactor its turn if the slice of this task is used up.
pub async fn breathe<E: Env>(env: &E) {
    if env.slice_used() {
        env.turn().await;
    }
}

/// What protects a client's connections and its messages.
#[derive(Clone)]
pub struct Guards {
    /// Secures connections to a secure endpoint, which requires it.
    pub tls: Option<Rc<Secured>>,
    /// What no message may quote from an answer.
    pub secrets: Secrets,
}

/// Where requests go, and through which proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The server.
    pub endpoint: Endpoint,
    /// The proxy, if there is one.
    pub proxy: Option<Proxy>,
}

/// An HTTP client: see the module.
pub struct Client<E: Env> {
    env: E,
    endpoint: Endpoint,
    head: Head,
    proxy: Option<Proxy>,
    tls: Option<Rc<Secured>>,
    /// What nothing that is quoted from an answer may contain.
    secrets: Secrets,
    timeout: Duration,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    connection: Connected,
    since: Monotonic,
}

/// An open connection.
struct Connected {
    sender: SendRequest<Full<Bytes>>,
    meter: Meter,
}

impl<E: Env> Client<E> {
    /// A client that connects with its first request.
    pub fn new(env: E, way: Way, mut head: Head, guards: Guards, timeout: Duration) -> Client<E> {
        let (Way { endpoint, proxy }, Guards { tls, secrets }) = (way, guards);
        if let Some(proxy) = proxy.as_ref().filter(|_| !endpoint.secure) {
            if let Ok(whole) = format!("http://{}{}", endpoint.target(), head.path).parse() {
                head.path = whole;
            }
            if let Some(value) = &proxy.authorization {
                head.headers.insert(PROXY_AUTHORIZATION, value.clone());
            }
        }
        Client { env, endpoint, head, proxy, tls, secrets, timeout, idle: RefCell::default() }
    }

    /// The method of its requests.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The endpoint as it is shown.
    pub fn name(&self) -> String {
        self.endpoint.name()
    }

    /// The endpoint and the proxy as they are shown.
    fn way(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("{} through the proxy {}", self.name(), proxy.name()),
            None => self.name(),
        }
    }

    /// Sends a request and reads its answer, whose body may have `answer_bytes_max`. Can be canceled at any time, which closes
    /// the connection.
    pub async fn send(&self, body: Bytes, answer_bytes_max: usize) -> Result<Reply, SendError> {
        let late = async {
            self.env.sleep(self.timeout).await;
            Err(SendError::Timeout { endpoint: self.name(), timeout: self.timeout })
        };
        or(self.exchange(body, answer_bytes_max), late).await
    }

    /// Closes connections that were idle for too long.
    pub fn tick(&self) {
        let now = self.env.now();
        self.idle.borrow_mut().retain(|idle| !idle.connection.sender.is_closed() && now.since(idle.since) < IDLE_LIFE);
    }

    async fn exchange(&self, body: Bytes, answer_bytes_max: usize) -> Result<Reply, SendError> {
        loop {
            let kept = self.take_idle().await;
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await.map_err(|source| SendError::Connect { endpoint: self.way(), source })?,
            };
            let meter = connection.meter.clone();
            meter.begin();
            let request = self.request(body.clone(), meter.clone());
            let response = match connection.sender.try_send_request(request).await {
                Ok(response) => response,
                Err(_) if meter.is_exceeded() => return Err(SendError::Ahead { endpoint: self.way() }),
                Err(mut error) => {
                    let never_left = error.take_message().is_some();
                    if is_kept && never_left {
                        continue;
                    }
                    return Err(self.broken(error.into_error()));
                }
            };
            meter.end();
            let limits = reply::Reading { now: self.env.wall(), bytes_max: answer_bytes_max, secrets: &self.secrets };
            let reply = reply::read(response, limits, &async || breathe(&self.env).await).await;
            let reply = reply.map_err(|source| SendError::Body { endpoint: self.name(), source })?;
            if !self.may_mind_the_certificate(reply.status) {
                self.give_back(connection);
            }
            return Ok(reply);
        }
    }

    /// Why a connection failed. A server that speaks TLS 1.3 rejects a client certificate only after the handshake.
    fn broken(&self, source: hyper::Error) -> SendError {
        let Some(tls) = &self.tls else { return SendError::Broken { endpoint: self.name(), source } };
        tls.doubt();
        match tls_error(&source) {
            Some(_) => SendError::Connect { endpoint: self.way(), source: io::Error::other(tls.explained(&source)) },
            None => SendError::Broken { endpoint: self.name(), source },
        }
    }

    /// Whether another client certificate may change the answer. A connection keeps the one that it began with.
    fn may_mind_the_certificate(&self, status: StatusCode) -> bool {
        let Some(tls) = self.tls.as_ref().filter(|tls| tls.has_client_certificate()) else { return false };
        let statuses = [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        let may = statuses.contains(&status);
        if may {
            tls.doubt();
        }
        may && status != StatusCode::BAD_REQUEST
    }

    fn request(&self, body: Bytes, meter: Meter) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.path.clone();
        *request.headers_mut() = self.head.headers.clone();
        request.headers_mut().entry(HOST).or_insert_with(|| self.endpoint.host_header.clone());
        on_informational(&mut request, move |_| meter.skipped());
        request
    }

    /// The most recently used connection that is still open.
    async fn take_idle(&self) -> Option<Connected> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let Idle { mut connection, since } = idle?;
            let is_fresh = self.env.now().since(since) < IDLE_LIFE;
            if is_fresh && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn give_back(&self, connection: Connected) {
        let mut idle = self.idle.borrow_mut();
        if !connection.sender.is_closed() && idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since: self.env.now() });
        }
    }

    async fn connect(&self) -> io::Result<Connected> {
        let timeout = self.part_of_timeout().min(CONNECT_TIMEOUT);
        let tls = match self.tls.as_ref().filter(|_| self.endpoint.secure) {
            Some(tls) => Some((tls, tls.connector(&self.env).await)),
            None => None,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.addresses().await?.into_iter().take(ADDRESSES_MAX) {
            let mut connection = match self.env.connect(address, timeout).await {
                Ok(connection) => connection,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let Some((tls, connector)) = &tls else {
                return self.speak(connection).await;
            };
            if let Some(proxy) = &self.proxy {
                proxy.tunnel(&mut connection, &self.endpoint, &self.secrets).await?;
            }
            let name = server_name(tls.server_name().unwrap_or(&self.endpoint.host));
            let name = name.map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
            let stream = connector.connect(name, connection).await.map_err(|error| {
                tls.doubt();
                io::Error::new(error.kind(), tls.explained(&error))
            })?;
            return self.speak(stream).await;
        }
        Err(last)
    }

    /// What a look-up or a connect may take: less than the whole time, so that the error says what took it.
    fn part_of_timeout(&self) -> Duration {
        self.timeout * 3 / 4
    }

    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match &self.proxy {
            Some(proxy) => (proxy.host.clone(), proxy.port),
            None => (self.endpoint.host.clone(), self.endpoint.port),
        };
        match host.parse::<IpAddr>() {
            Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
            Err(_) => {
                let mut all = self.env.resolve(&host, self.part_of_timeout()).await?;
                all.iter_mut().for_each(|address| address.set_port(port));
                Ok(all)
            }
        }
    }

    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<Connected> {
        let mut builder = Builder::new();
        // Writing the head separately is cheaper than copying the body behind it.
        builder.writev(true).max_buf_size(HEAD_BYTES_MAX);
        let meter = Meter::default();
        let stream = HyperStream(Metered { stream, meter: meter.clone() });
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        // How the connection ends is reported to the request that waits for an answer.
        self.env.spawn("http client", async move { drop(connection.await) });
        Ok(Connected { sender, meter })
    }
}
