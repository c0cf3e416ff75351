//! Servers that send much before their answer.

use super::*;

const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";

/// A server whose first answer comes after `ahead`, and further ones after nothing.
fn server(ahead: Vec<u8>) -> Server {
    Server::start(move |number, _| match number {
        0 => Act::Send([ahead.clone(), answer(200, "", b"")].concat()),
        _ => status(200),
    })
}

#[test]
fn server_that_floods_interim_answers_loses_its_connection() {
    let large = [b"HTTP/1.1 102 Processing\r\nx: ", &b"x".repeat(30_000)[..], b"\r\n\r\n"].concat();
    for ahead in [INTERIM.repeat(10_000), large.repeat(100)] {
        let server = server(ahead);
        let outcomes = send(&server, json!({}), 2, 3);
        let (error, _) = retry(&outcomes[0]);
        assert!(error.contains("interim answers (HTTP 1xx)") && error.contains(&server.url()), "{error}");
        assert!(matches!(outcomes[1], Outcome::Delivered), "{outcomes:?}");
        assert_eq!(server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 1], "it was closed");
    }
}

#[test]
fn few_interim_answers_precede_each_answer() {
    let server = Server::start(|_, _| Act::Send([INTERIM.repeat(20), answer(200, "", &[b' '; 200_000])].concat()));
    let more = json!({ "request_bytes": 30, "concurrency": 1 });
    let outcomes = send(&server, more, 5, 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0; 5], "the counts begin again with each request");
}

#[test]
fn head_of_an_answer_is_bounded() {
    let line = [b"x: ", &b"y".repeat(100)[..], b"\r\n"].concat();
    for head in [vec![b'x'; 200_000], line.repeat(90 * 20), b"a: b\r\n".repeat(5_000)] {
        let server = Server::start(move |_, _| Act::Last([b"HTTP/1.1 200 OK\r\n", &head[..], b"\r\n\r\n"].concat()));
        let outcomes = send(&server, json!({}), 1, 1);
        assert!(retry(&outcomes[0]).0.contains("too large"), "{outcomes:?}");
    }
}
