//! A server that accepts bulk requests, or handles them as no server should.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens to a request.
pub enum Plan {
    /// Its events are accepted.
    Take,
    /// Each event has its own status, depending on its place in the request and its line; those with 2xx are accepted.
    Sort(fn(usize, &str) -> u16),
    /// It is rejected as a whole, with 400, if one of its events matches.
    Refuse(fn(&str) -> bool),
    /// Its body is not read.
    Reset,
    /// This response is sent for this many events, and the connection is closed.
    Say(fn(&mut TcpStream, usize) -> io::Result<()>),
}

type Planner = dyn Fn(usize, usize) -> Plan + Send + Sync;

/// A server that runs until the process ends.
pub struct Server {
    port: u16,
    taken: Arc<Mutex<Vec<Value>>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// `plan` gets the number of earlier requests and the length of the body.
    pub fn start(plan: impl Fn(usize, usize) -> Plan + Send + Sync + 'static) -> Server {
        Server::start_on(0, plan)
    }

    /// Like [`Server::start`], on this port.
    pub fn start_on(port: u16, plan: impl Fn(usize, usize) -> Plan + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let counted = Arc::new(AtomicUsize::new(0));
        let (store, requests, plan): (_, _, Arc<Planner>) = (taken.clone(), counted.clone(), Arc::new(plan));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (store, requests, plan) = (store.clone(), requests.clone(), plan.clone());
                // In many scenes the client disconnects in the middle.
                thread::spawn(move || drop(serve(stream, &store, &requests, &*plan)));
            }
        });
        Server { port, taken, requests: counted }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The number of requests.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The accepted events, in order.
    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().expect("no panic").clone()
    }
}

fn serve(stream: TcpStream, store: &Mutex<Vec<Value>>, requests: &AtomicUsize, plan: &Planner) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let plan = plan(requests.fetch_add(1, Ordering::SeqCst), length);
        if matches!(plan, Plan::Reset) {
            // Unread bytes would turn the close into a reset.
            return Ok(());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        // Each event is the second of two lines.
        let text = String::from_utf8(body).map_err(io::Error::other)?;
        let events: Vec<&str> = text.lines().skip(1).step_by(2).collect();
        let sort = match plan {
            Plan::Say(saying) => return saying(stream.get_mut(), events.len()),
            Plan::Sort(sort) => sort,
            Plan::Refuse(is_at_fault) if events.iter().any(|event| is_at_fault(event)) => {
                let why =
                    json!({"error": {"type": "illegal_argument_exception", "reason": "malformed"}, "status": 400})
                        .to_string();
                write!(stream.get_mut(), "HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{why}", why.len())?;
                continue;
            }
            Plan::Take | Plan::Reset | Plan::Refuse(_) => |_, _: &str| 201,
        };
        let statuses: Vec<u16> = events.iter().enumerate().map(|(place, event)| sort(place, event)).collect();
        let taken = events.iter().zip(&statuses).filter(|(_, status)| **status < 300);
        let taken: Result<Vec<Value>, _> = taken.map(|(event, _)| serde_json::from_str(event)).collect();
        store.lock().expect("no panic").extend(taken.map_err(io::Error::other)?);
        let items: Vec<Value> = statuses.iter().map(|status| json!({"index": {"status": status}})).collect();
        let answer = json!({"errors": statuses.iter().any(|status| *status >= 300), "items": items}).to_string();
        write!(stream.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())?;
    }
}
