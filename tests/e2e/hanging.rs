//! Name servers that never answer and servers that never accept: what they delay. The process has its own view of
//! `/etc/resolv.conf`, which leads to a silent name server.

use crate::case::Case;
use crate::disks::may_administrate;
use crate::lines::{LineCount, block};
use crate::network::Sink;
use crate::product::{Product, binary};
use crate::wait::wait_for;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tailwater_services::ports::free_port;

/// Twice as many as a shard has threads for plugins.
const HANGING: usize = 16;

/// A name server that reads questions and answers none, at an address of its own: other tests run beside this one. Returns the
/// names.
fn silent_name_server() -> (Ipv4Addr, Arc<Mutex<BTreeSet<String>>>) {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let mut addresses = (0..=255).map(|more| Ipv4Addr::new(127, 53, high, low.wrapping_add(more)));
    let bind = |address| Some((address, UdpSocket::bind((address, 53)).ok()?));
    let (address, socket) = addresses.find_map(bind).expect("a free address");
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 1500];
        while let Ok(length) = socket.recv(&mut bytes) {
            // The first label of the question.
            let label = bytes.get(13..13 + usize::from(bytes[12])).filter(|_| length > 13).unwrap_or_default();
            seen.lock().expect("no panic").insert(String::from_utf8_lossy(label).into_owned());
        }
    });
    (address, asked)
}

/// A listener that accepts nothing more: its queue is full.
fn full_listener() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        assert!(queued.len() < 10_000, "the queue has no end");
        queued.push(stream);
    }
    (listener, queued, address)
}

/// A configuration with one output for each URL that hangs, one that works, and a file.
fn configure(case: &Case, hanging: &[String], good: &str) -> std::path::PathBuf {
    let mut outputs = format!("  out: {}\n  good: {{type: http, url: \"{good}\", proxy: none}}\n", case.json_output());
    let mut names = vec!["out".to_owned(), "good".to_owned()];
    for (number, url) in hanging.iter().enumerate() {
        let name = format!("hang{number}");
        outputs.push_str(&format!("  {name}: {{type: http, url: \"{url}\", proxy: none, timeout: 4s}}\n"));
        names.push(name);
    }
    let text = format!(
        "data_dir: \"{}\"\nshards: 1\nadmin: {{listen: \"127.0.0.1:{}\"}}\ninputs:\n  app: {{type: file, include: [\"{}\"]}}\n\
         pipelines:\n  main: {{inputs: [app], outputs: [{}]}}\noutputs:\n{outputs}",
        case.path("data").display(),
        case.admin_port,
        case.path("logs/*.log").display(),
        names.join(", "),
    );
    case.write("tailwater.yaml", text.as_bytes())
}

/// Starts the product with its own files for names.
fn start(case: &Case, config: &Path, name_server: Ipv4Addr) -> Product {
    case.write("resolv.conf", format!("nameserver {name_server}\noptions timeout:30 attempts:5\n").as_bytes());
    case.write("hosts", b"127.0.0.1 localhost good.example\n");
    case.write("nsswitch.conf", b"hosts: files dns\n");
    let script = "mount --make-rprivate / && for file in resolv.conf hosts nsswitch.conf; do \
                  [ ! -e /etc/$file ] || mount --bind \"$0/$file\" /etc/$file || exit 1; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(case.path(""));
    command.arg(binary()).args(["run", "-c"]).arg(config).stdin(Stdio::null());
    Product::start_with(case, &mut command)
}

/// Files are found, read and delivered, to a server too, while everything else that an output waits for hangs.
fn assert_goes_on(case: &Case, product: &mut Product, sink: &Sink) {
    let mut count = LineCount::of(case.output());
    for round in 0..3 {
        case.write(&format!("logs/late{round}.log"), &block(101 + 100 * round, 200 + 100 * round));
        count.wait(200 + 100 * round, product);
        wait_for("lines at the server that works", || match sink.lines() as u64 {
            lines if lines == 200 + 100 * round => Ok(()),
            lines => Err(format!("{lines} lines; {}", product.state())),
        });
    }
}

#[test]
fn names_that_hang_delay_neither_files_nor_other_names() {
    if !may_administrate("names that hang") {
        return;
    }
    let case = Case::alone("names");
    let ((name_server, asked), port) = (silent_name_server(), free_port());
    let sink = Sink::start(port);
    let hanging: Vec<String> = (0..HANGING).map(|number| format!("http://hang{number}.example/in")).collect();
    let config = configure(&case, &hanging, &format!("http://good.example:{port}/in"));
    case.write("logs/app.log", &block(1, 100));
    let mut product = start(&case, &config, name_server);
    product.expect("no name server has answered");
    wait_for("questions for every name", || match asked.lock().expect("no panic").len() {
        HANGING => Ok(()),
        names => Err(format!("{names} names; {}", product.state())),
    });
    assert_goes_on(&case, &mut product, &sink);
    product.wait_for_log(&["no name server has answered for `hang0.example` within 3s", "/etc/resolv.conf"]);
    product.kill();
}

#[test]
fn servers_that_do_not_accept_delay_neither_files_nor_other_servers() {
    if !may_administrate("servers that do not accept") {
        return;
    }
    let case = Case::alone("connects");
    let (_listener, _queued, address) = full_listener();
    let ((name_server, _), port) = (silent_name_server(), free_port());
    let sink = Sink::start(port);
    let hanging: Vec<String> = (0..HANGING).map(|_| format!("http://{address}/in")).collect();
    let config = configure(&case, &hanging, &format!("http://good.example:{port}/in"));
    case.write("logs/app.log", &block(1, 100));
    let mut product = start(&case, &config, name_server);
    product.expect("timed out");
    // On a busy machine.
    product.expect("no answer within 4s");
    product.wait_for_log(&["timed out", "hang0"]);
    assert_goes_on(&case, &mut product, &sink);
    product.kill();
}
