//! The admin endpoint as a scraper sees it: a plain request over TCP.

use crate::product::Product;
use crate::wait::wait_for;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A response (status and body), or why there was none.
pub fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let describe = |error: std::io::Error| format!("GET {path}: {error}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(describe)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(describe)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(describe)?;
    let mut response = String::new();
    stream.read_to_string(&mut response).map_err(describe)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP response: {response:?}"))?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| format!("no status: {head:?}"))?;
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { joined(body) } else { body.to_owned() }))
}

/// The body of a chunked response.
fn joined(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || size > after.len() {
            break;
        }
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

/// The sum of a metric over the series that have all `labels`.
pub fn sum(port: u16, name: &str, labels: &[&str]) -> Result<u64, String> {
    let (status, body) = get(port, "/metrics")?;
    if status != 200 {
        return Err(format!("/metrics answered {status}"));
    }
    Ok(sum_of(&body, name, labels))
}

/// The sum of a metric in a text, over the series that have all `labels`.
pub fn sum_of(body: &str, name: &str, labels: &[&str]) -> u64 {
    let mut sum = 0.0;
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let named = series.split('{').next() == Some(name);
        if named && labels.iter().all(|label| series.contains(label)) {
            sum += value.parse::<f64>().unwrap_or(0.0);
        }
    }
    sum as u64
}

/// Waits until the product reports that it is ready.
pub fn wait_for_ready(port: u16) {
    wait_for("ready", || match get(port, "/readyz")? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Waits until a WAL of `product` was synced.
pub fn wait_for_sync(port: u16, product: &mut Product) {
    wait_for("a synced log", || match sum(port, "tailwater_wal_syncs_total", &[])? {
        0 => Err(product.state()),
        _ => Ok(()),
    });
}

/// Events that this process has appended to the WAL. The last of them survive its death only when it has written what it has
/// collected in memory, which it does before it delivers them.
pub fn logged_events(port: u16) -> Result<u64, String> {
    sum(port, "tailwater_wal_appended_events_total", &[])
}

/// Events that all inputs have read.
pub fn received_events(port: u16) -> Result<u64, String> {
    sum(port, "tailwater_component_received_events_total", &["component_kind=\"input\""])
}

#[test]
fn sums_are_of_the_named_series_only() {
    let body = "# HELP a b\na{x=\"1\",s=\"0\"} 3\na{x=\"1\",s=\"1\"} 4\na{x=\"2\"} 5\nab{x=\"1\"} 100\n";
    assert_eq!(sum_of(body, "a", &["x=\"1\""]), 7);
    assert_eq!(sum_of(body, "a", &[]), 12);
    assert_eq!(joined("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
}
