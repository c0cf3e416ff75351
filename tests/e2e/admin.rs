//! An ordinary user keeps as many connections to the admin endpoint as he can, and web pages ask it.
//!
//! Guarantees that are checked: whatever such connections do, health checks and scrapes are answered, over loopback and over another
//! address of this host; the number of connections is limited, and each ends; requests that name an unknown host or come from a
//! web page are refused.
//!
//! The stranger is a process of an ordinary user (`setpriv`), in Perl. It connects again whatever is closed.

use crate::case::Case;
use crate::disks::not_checked;
use crate::lines::LineCount;
use crate::metrics::sum_of;
use crate::product::{NOBODY, Product, is_root};
use crate::running::append;
use crate::wait::{pause, wait_for};
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// More connections than there are places.
const STRANGERS: usize = 80;

/// The most connections that the product serves.
const PLACES: usize = 64;

/// How many of them only loopback addresses get.
const PLACES_NEAR: usize = 8;

/// In which time a client that tries again and again gets its answer, on a busy machine. Most are answered at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// In which time a connection ends that does not do its part: the deadline is 5 s.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Perl: keeps connections open. Each writes `$first`, and `$again` when something came, or all the time if it reads nothing.
const STRANGER: &str = r#"
    use strict; use Socket; use Fcntl;
    my ($host, $port, $count, $reads, $first, $again) = @ARGV;
    $SIG{PIPE} = 'IGNORE'; $| = 1;
    my @all = (undef) x $count;
    sub connected {
        socket(my $s, PF_INET, SOCK_STREAM, 0) or return;
        setsockopt($s, SOL_SOCKET, SO_RCVBUF, pack('i', 4096)) unless $reads;
        connect($s, sockaddr_in($port, inet_aton($host))) or return;
        fcntl($s, F_SETFL, O_NONBLOCK);
        syswrite($s, $first);
        return $s;
    }
    for (my $round = 0; ; $round++) {
        print "ready\n" if $round == 1;
        for my $s (@all) {
            $s //= connected();
            next unless $s;
            my $said;
            if ($reads) {
                my $length = sysread($s, my $bytes, 65536);
                $said = defined $length ? $length : $!{EAGAIN};
                syswrite($s, $again) if $length;
            } else {
                $said = defined syswrite($s, $again) || $!{EAGAIN};
            }
            undef $s unless $said;
        }
        select(undef, undef, undef, 0.01);
    }
"#;

/// What the connections of a stranger do.
#[derive(Clone, Copy)]
struct Attack {
    name: &'static str,
    reads: bool,
    first: &'static str,
    again: &'static str,
}

const ATTACKS: [Attack; 4] = [
    Attack { name: "silent", reads: true, first: "", again: "" },
    Attack { name: "half a head", reads: false, first: "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", again: "x" },
    Attack { name: "slow to read", reads: false, first: ASKS, again: ASKS },
    Attack { name: "always answered", reads: true, first: ASKS, again: ASKS },
];

const ASKS: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The stranger's process.
struct Stranger(Child);

impl Stranger {
    fn start(attack: Attack, address: SocketAddr) -> Stranger {
        let mut command = Command::new("perl");
        if is_root() {
            command = Command::new("setpriv");
            command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--", "perl"]);
        }
        command.args(["-e", STRANGER, &address.ip().to_string(), &address.port().to_string()]);
        command.args([STRANGERS.to_string().as_str(), if attack.reads { "1" } else { "" }, attack.first, attack.again]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("perl and setpriv are there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "{}", attack.name);
        Stranger(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address of this host that is not loopback.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: the kernel selects an address of this host.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A product whose admin endpoint listens on all addresses.
fn started(name: &str, settings: &str) -> (Case, Product) {
    let case = Case::new(name);
    let config = case.files_to_file("logs/*.log");
    let text = fs::read_to_string(&config).expect("the configuration");
    let (own, open) = (format!("\"127.0.0.1:{}\"", case.admin_port), format!("\"0.0.0.0:{}\"", case.admin_port));
    let text = text.replace(&own, &format!("{open}, insecure: true{settings}"));
    case.write("tailwater.yaml", text.as_bytes());
    case.write("logs/app.log", b"a line\n");
    let product = Product::start(&case, &config);
    wait_for("an endpoint", || ask((LOOPBACK, case.admin_port).into(), "/readyz").and_then(ok));
    (case, product)
}

fn ok((status, body): (u16, String)) -> Result<String, String> {
    if status == 200 { Ok(body) } else { Err(format!("{status}: {body}")) }
}

fn ask(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// The status and body of the answer to this request.
fn request(address: SocketAddr, head: &str) -> Result<(u16, String), String> {
    let exchange = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWERED_WITHIN)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("no status: {head:?}"))?, body.to_owned()))
}

/// Asks until there is an answer, which must be soon.
fn answered(address: SocketAddr, path: &str, attack: Attack) -> String {
    let started = Instant::now();
    loop {
        match ask(address, path).and_then(ok) {
            Ok(body) => return body,
            Err(why) => {
                let waited = started.elapsed();
                assert!(waited < ANSWERED_WITHIN, "{}: {address}{path} hidden for {waited:?}: {why}", attack.name);
            }
        }
        pause(Duration::from_millis(10));
    }
}

/// The sockets that a product has open.
fn sockets(product: &Product) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", product.id())).expect("its descriptors").flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Attacks the address `from`, and asks over `asked` meanwhile.
fn checks_are_answered(name: &str, attack: Attack, from: IpAddr, asked: &[IpAddr]) {
    let (case, mut product) = started(name, "");
    let idle = sockets(&product);
    let stranger = Stranger::start(attack, (from, case.admin_port).into());
    let held = if from.is_loopback() { PLACES } else { PLACES - PLACES_NEAR };
    wait_for("all places taken", || match sockets(&product) {
        now if now >= idle + held => Ok(()),
        now => Err(format!("{now} sockets, {idle} before; {}", product.state())),
    });
    for round in 0..10 {
        for &address in asked {
            for path in ["/livez", "/readyz", "/metrics"] {
                let body = answered((address, case.admin_port).into(), path, attack);
                assert!(body.contains(if path == "/metrics" { "tailwater_" } else { "ok\n" }), "{body}");
            }
        }
        let now = sockets(&product);
        // One comes while another leaves, and a few wait to be accepted.
        assert!(now <= idle + PLACES + 10, "{}, round {round}: {now} sockets, {idle} before", attack.name);
    }
    drop(stranger);
    product.terminate();
}

#[test]
fn connections_over_loopback_do_not_hide_the_endpoint() {
    for attack in ATTACKS {
        checks_are_answered("admin-near", attack, LOOPBACK, &[LOOPBACK]);
    }
}

#[test]
fn connections_from_elsewhere_do_not_hide_the_endpoint() {
    let Some(other) = other_address() else {
        return not_checked("an admin endpoint on two addresses", "this host has no other address than loopback");
    };
    for attack in ATTACKS {
        checks_are_answered("admin-far", attack, other, &[LOOPBACK, other]);
    }
}

/// The text is made rarely if many ask for it, but each client gets one that was made after it asked.
#[test]
fn scrapes_are_fresh_however_many_ask() {
    let (case, mut product) = started("admin-fresh", "");
    let flood = ATTACKS[3];
    let stranger = Stranger::start(flood, (LOOPBACK, case.admin_port).into());
    let mut count = LineCount::of(case.output());
    for lines in 2..12 {
        append(&case.path("logs/app.log"), b"a line\n");
        count.wait(lines, &mut product);
        let text = answered((LOOPBACK, case.admin_port).into(), "/metrics", flood);
        let received = sum_of(&text, "tailwater_component_received_events_total", &["component_kind=\"input\""]);
        assert_eq!(received, lines, "{text}");
    }
    drop(stranger);
    product.terminate();
}

/// Does something to a connection until it fails. Returns after what time that was.
fn ends(what: &str, address: SocketAddr, first: &str, mut go_on: impl FnMut(&mut TcpStream) -> io::Result<()>) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_write_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mut failed = stream.write_all(first.as_bytes());
    while failed.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::WouldBlock) {
        let open = started.elapsed();
        assert!(open < ENDED_WITHIN, "{what}: open for {open:?}");
        failed = go_on(&mut stream);
    }
}

#[test]
fn connections_end_that_do_not_do_their_part() {
    let (case, product) = started("admin-deadlines", "");
    let address: SocketAddr = (LOOPBACK, case.admin_port).into();
    let trickle = |stream: &mut TcpStream| {
        pause(Duration::from_millis(100));
        stream.write_all(b"x")
    };
    let read = |stream: &mut TcpStream| match stream.read(&mut [0; 64])? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ends("silent", address, "", read));
        scope.spawn(|| ends("half a head", address, "GET /livez HTTP/1.1\r\nX: ", trickle));
        let second = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\n";
        scope.spawn(|| ends("half a second head", address, second, |stream| trickle(stream)));
        // More than the buffers of the kernel hold.
        scope.spawn(|| ends("no reader", address, "", |stream| stream.write_all(ASKS.repeat(100).as_bytes())));
    });
    product.terminate();
}

#[test]
fn requests_that_a_web_page_may_have_sent_are_refused() {
    let (case, product) = started("admin-hosts", ", hosts: [logs.example, 203.0.113.5]");
    let port = case.admin_port;
    let mut cases: Vec<(u16, String)> = [
        (200, "Host: localhost"),
        (200, "Host: 127.0.0.1:80"),
        (200, "Host: [::1]:9600"),
        (200, "Host: LOGS.example"),
        (200, "Host: logs.example:1234"),
        (200, "Host: 203.0.113.5"),
        // A page whose name leads to this host.
        (403, "Host: rebound.example"),
        (403, "Host: localhost.rebound.example"),
        (403, "Host: 127.0.0.1.rebound.example"),
        (403, "Host: notlogs.example"),
        (403, "Host: 203.0.113.6"),
        (403, "Host: 0.0.0.0"),
        (400, "Host: localhost@rebound.example"),
        (400, "Host: "),
        (400, "X: y"),
        (400, "Host: localhost\r\nHost: rebound.example"),
        (400, "Host: localhost\r\nHost: localhost"),
        // A page that knows the address.
        (403, "Host: localhost\r\nOrigin: http://rebound.example"),
        (403, "Host: localhost\r\nOrigin: null"),
        (403, "Host: localhost\r\nSec-Fetch-Site: cross-site"),
        (200, "Host: localhost\r\nSec-Fetch-Site: none"),
    ]
    .map(|(status, headers)| (status, format!("GET /livez HTTP/1.1\r\n{headers}")))
    .into();
    cases.extend([
        (200, "GET /livez HTTP/1.0".to_owned()),
        (403, "GET /livez HTTP/1.0\r\nHost: rebound.example".to_owned()),
        (400, "GET http://localhost/livez HTTP/1.1\r\nHost: localhost".to_owned()),
        (400, "GET http://rebound.example/livez HTTP/1.1\r\nHost: localhost".to_owned()),
        (405, "POST /livez HTTP/1.1\r\nHost: localhost".to_owned()),
        (403, "OPTIONS /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://rebound.example".to_owned()),
        (404, "GET /unknown HTTP/1.1\r\nHost: localhost".to_owned()),
    ]);
    if let Some(other) = other_address() {
        cases.push((403, format!("GET /livez HTTP/1.1\r\nHost: {other}")));
        let answer = request(
            (other, port).into(),
            &format!(
                "GET /livez HTTP/1.1\r\nHost: {other}:{port}\r\n\
            Connection: close\r\n\r\n"
            ),
        );
        assert_eq!(answer, Ok((200, "ok\n".to_owned())), "by the address that it was reached at");
    }
    for (expected, head) in cases {
        let (status, body) =
            request((LOOPBACK, port).into(), &format!("{head}\r\nConnection: close\r\n\r\n")).expect(&head);
        assert_eq!(status, expected, "{head}: {body}");
        assert!(status == 200 || !body.contains("example"), "nothing is repeated: {body}");
        assert!(status != 403 || !body.contains("ok"), "{body}");
    }
    product.terminate();
}

#[test]
fn process_that_cannot_listen_says_why_and_not_that_it_started() {
    let case = Case::new("admin-taken");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", b"a line\n");
    let taken = TcpListener::bind((LOOPBACK, case.admin_port)).expect("a free port");
    let mut product = Product::start(&case, &config);
    for part in ["the address is in use; retrying", "cannot listen on"] {
        product.expect(part);
    }
    product.wait_for_log(&["the address is in use; retrying"]);
    assert_ne!(product.wait().code(), Some(0));
    assert!(!product.log().contains("\"started\""), "{}", product.log());
    drop(taken);
    let mut again = Product::start(&case, &config);
    again.wait_for_log(&["\"started\""]);
    again.terminate();
}
