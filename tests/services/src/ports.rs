//! Ports for servers of tests.
//!
//! Guarantees: no two tests get the same port, not even of two processes that run at once. Does not keep other programs from
//! taking a port while nothing listens there.

use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports for clients.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_760;

/// A free port that stays free while a server is down between two starts.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at once rarely try the same ones.
    let first = (std::process::id() % 127) as u16 * 100;
    for _ in 0..COUNT {
        let port = FIRST + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let Ok(mark) = UnixListener::bind_addr(&mark(port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Open until this process ends.
            let _ = mark.into_raw_fd();
            return port;
        }
    }
    panic!("no port is free from {FIRST} to {}", FIRST + COUNT)
}

/// The name that the owner of a port holds. The kernel releases it with its owner, and keeps it where the port is: in the
/// network namespace.
fn mark(port: u16) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("tailwater test port {port}")).expect("a short name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_given_once() {
        let (one, other) = (free_port(), free_port());
        assert_ne!(one, other);
        for port in [one, other] {
            assert!(UnixListener::bind_addr(&mark(port)).is_err(), "another process could take {port}");
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "its owner cannot listen at {port}");
        }
    }

    #[test]
    fn ports_of_another_process_are_passed_over() {
        let port = free_port();
        // Another test of this process may be faster with some of them.
        let following = (1..=20).map(|step| FIRST + (port - FIRST + step) % COUNT);
        let held: Vec<_> =
            following.filter_map(|port| Some((port, UnixListener::bind_addr(&mark(port)).ok()?))).collect();
        assert!(!held.is_empty());
        for _ in 0..5 {
            let given = free_port();
            assert!(held.iter().all(|(port, _)| *port != given), "{given} belongs to somebody else");
        }
    }
}
