//! Watches, streams and sockets.

use super::{child, is_child, run_one};
use crate::env::{Env, Stream, Watch, WatchEvent, WatchId, WatchKind};
use crate::glommio_env::{Connection, DescriptorStream, GlommioEnv, Listener};
use crate::limits::PLUGIN_THREADS;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use std::cell::Cell;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn event(directory: WatchId, kind: WatchKind, name: &str) -> WatchEvent {
    WatchEvent { directory, kind, name: name.into() }
}

/// Receives events until there are `count`.
async fn collect(watch: &impl Watch, count: usize) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        watch.next(&mut events).await.expect("the watch works");
    }
    events
}

#[test]
fn watch_tells_what_happens_to_names() {
    use WatchKind::{Appeared, Gone, Modified, Vanished};
    run_one(|env| async move {
        let directory = tempfile::tempdir().expect("a directory");
        let (at, watch) = (directory.path().join("logs"), env.watch().expect("inotify"));
        std::fs::create_dir(&at).expect("made");
        let id = watch.add(&at).expect("a directory");
        assert_eq!(watch.add(&at).expect("the same directory"), id);
        let mut file = std::fs::File::create(at.join("a")).expect("created");
        for _ in 0..5 {
            file.write_all(b"x").expect("written");
        }
        std::fs::rename(at.join("a"), at.join("b")).expect("renamed");
        std::fs::remove_file(at.join("b")).expect("removed");
        // The kernel keeps writes in a row apart or not; here they are one.
        let expected = [(Appeared, "a"), (Modified, "a"), (Vanished, "a"), (Appeared, "b"), (Vanished, "b")];
        let seen = collect(&watch, expected.len()).await;
        assert_eq!(seen, expected.map(|(kind, name)| event(id, kind, name)));
        drop(file);
        std::fs::remove_dir(&at).expect("removed");
        assert_eq!(collect(&watch, 1).await, [event(id, Gone, "")]);
    });
}

#[test]
fn moved_directory_is_gone_once_and_silent_after() {
    run_one(|env| async move {
        let directory = tempfile::tempdir().expect("a directory");
        let (old, new, other) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        std::fs::create_dir(&old).expect("made");
        std::fs::create_dir(&other).expect("made");
        let watch = env.watch().expect("inotify");
        let (id, other_id) = (watch.add(&old).expect("watched"), watch.add(&other).expect("watched"));
        std::fs::rename(&old, &new).expect("moved");
        std::fs::write(new.join("unseen"), "x").expect("written");
        std::fs::create_dir(other.join("seen")).expect("made");
        let expected = [event(id, WatchKind::Gone, ""), event(other_id, WatchKind::Appeared, "seen")];
        assert_eq!(collect(&watch, 2).await, expected);
        watch.remove(other_id);
        std::fs::create_dir(other.join("unseen")).expect("made");
        let again = watch.add(&other).expect("watched");
        assert_ne!(again, other_id);
        std::fs::remove_dir(other.join("seen")).expect("removed");
        assert_eq!(collect(&watch, 1).await, [event(again, WatchKind::Vanished, "seen")]);
    });
}

#[test]
fn watch_of_a_missing_directory_or_a_file_is_an_error() {
    run_one(|env| async move {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "x").expect("written");
        let watch = env.watch().expect("inotify");
        assert_eq!(watch.add(&directory.path().join("none")).map_err(|e| e.kind()), Err(ErrorKind::NotFound));
        assert_eq!(watch.add(&file).map_err(|e| e.kind()), Err(ErrorKind::NotADirectory));
    });
}

#[test]
fn overflow_of_a_watch_is_told() {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("proc is mounted");
    let limit: usize = limit.trim().parse().expect("a number");
    run_one(move |env| async move {
        let directory = tempfile::tempdir().expect("a directory");
        let watch = env.watch().expect("inotify");
        watch.add(directory.path()).expect("watched");
        let (one, two) = (directory.path().join("1"), directory.path().join("2"));
        std::fs::write(&one, "x").expect("written");
        // Each rename queues two events; nobody reads meanwhile.
        for _ in 0..limit / 4 + 1 {
            std::fs::rename(&one, &two).expect("renamed");
            std::fs::rename(&two, &one).expect("renamed");
        }
        let mut events = Vec::new();
        while !events.iter().any(|event: &WatchEvent| event.kind == WatchKind::Overflow) {
            watch.next(&mut events).await.expect("the watch works");
        }
    });
}

async fn read_all(stream: &mut impl Stream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0u8; 1000]);
    loop {
        match stream.read(&mut buffer).await.expect("readable") {
            0 => return all,
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

fn numbers() -> Vec<u8> {
    (0..40_000).flat_map(|number: u32| format!("{number}\n").into_bytes()).collect()
}

#[test]
fn pipe_is_read_whole_while_the_shard_runs_on() {
    for flags in [0, libc::O_NONBLOCK] {
        let seen = run_one(move |env| async move {
            let (reader, mut writer) = std::io::pipe().expect("a pipe");
            set_flags(&reader, flags);
            let mut stream = DescriptorStream::new(&reader).expect("a stream");
            drop(reader);
            let (go, wait) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                super::receive(&wait);
                writer.write_all(&numbers()).expect("the shard reads");
            });
            // A pending read must not block the shard: the writer starts only after a turn.
            let turning = env.clone();
            env.spawn("turning", async move {
                turning.turn().await;
                go.send(()).expect("the writer waits");
            });
            let seen = read_all(&mut stream).await;
            env.blocking(move || thread.join()).await.expect("the writer wrote");
            seen
        });
        assert!(seen == numbers(), "{} bytes", seen.len());
    }
}

/// Sets the status flags of a descriptor, as a parent process may have done.
#[allow(unsafe_code, reason = "the standard library sets no flags of pipes")]
fn set_flags(descriptor: &impl std::os::fd::AsRawFd, flags: libc::c_int) {
    // SAFETY: takes a descriptor that is open, and flags.
    assert_eq!(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, flags) }, 0);
}

#[test]
fn regular_file_is_read_from_where_it_stands() {
    let seen = run_one(|_| async {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&numbers()).expect("written");
        file.seek(SeekFrom::Start(4)).expect("moved");
        read_all(&mut DescriptorStream::new(&file).expect("a stream")).await
    });
    assert!(seen == numbers()[4..], "{} bytes", seen.len());
}

#[test]
fn standard_input_is_read_to_its_end() {
    const NAME: &str = "standard_input_is_read_to_its_end";
    if is_child(NAME) {
        let seen = run_one(|env| async move { read_all(&mut env.stdin().expect("open")).await });
        return assert!(seen == numbers(), "{} bytes", seen.len());
    }
    let mut child = child(&[], "io", NAME).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(&numbers()).expect("the child reads");
    assert!(child.wait().expect("it ends").success());
}

/// A peer in a thread: connects `count` times and sends one numbered byte each.
fn send_bytes(address: std::net::SocketAddr, count: u8) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for number in 0..count {
            let mut peer = std::net::TcpStream::connect(address).expect("the shard listens");
            peer.write_all(&[number]).expect("the shard reads");
        }
    })
}

#[test]
fn accept_that_is_given_up_loses_no_connection() {
    let mut seen = run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        let peers = send_bytes(listener.local_address(), 200);
        let mut seen = Vec::new();
        while seen.len() < 200 {
            let pause = env.sleep(Duration::from_micros(50));
            let next = futures_lite::future::or(async { Some(listener.accept().await) }, async {
                pause.await;
                None
            });
            if let Some(connection) = next.await {
                let mut byte = [0];
                connection.expect("listening").read_exact(&mut byte).await.expect("one byte");
                seen.push(byte[0]);
            }
        }
        env.blocking(move || peers.join()).await.expect("all connected");
        seen
    });
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<u8>>());
}

#[test]
fn listener_ends_and_frees_its_port() {
    run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        let address = listener.local_address();
        let second = Listener::bind(&env, address).err().expect("taken");
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        let ending = env.clone();
        let waiting = async { listener.accept().await.map(drop) };
        let ended = futures_lite::future::zip(waiting, async {
            ending.sleep(Duration::from_millis(5)).await;
            listener.shutdown();
        });
        assert!(ended.await.0.is_err());
        drop(listener);
        env.turn().await;
        rebind(&env, address).await;
    });
}

/// Binds `address` as soon as the ring has closed the old socket.
async fn rebind(env: &GlommioEnv, address: std::net::SocketAddr) {
    for _ in 0..1000 {
        if Listener::bind(env, address).is_ok() {
            return;
        }
        env.sleep(Duration::from_millis(5)).await;
    }
    panic!("the port of a listener that ended stays taken");
}

#[test]
fn closer_ends_a_pending_read() {
    run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        let mut client = env.connect(listener.local_address(), super::DEADLINE).await.expect("listening");
        let mut server: Connection = listener.accept().await.expect("connected");
        client.write_all(b"ping").await.expect("connected");
        let mut buffer = [0u8; 4];
        server.read_exact(&mut buffer).await.expect("sent");
        assert_eq!(&buffer, b"ping");
        assert_eq!(server.peer_address().expect("connected").ip(), listener.local_address().ip());
        let closer = server.closer().expect("open");
        let (pausing, reading) = (env.clone(), async { server.read(&mut buffer).await });
        let read = futures_lite::future::zip(reading, async {
            pausing.sleep(Duration::from_millis(5)).await;
            closer.close();
        });
        assert_eq!(read.await.0.expect("the end"), 0);
        assert_eq!(client.read(&mut [0; 8]).await.expect("the end"), 0);
    });
}

/// A listener whose queue is full, so that connects to it hang. They end soon after it is dropped.
fn full_listener() -> (std::net::TcpListener, Vec<std::net::TcpStream>, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        assert!(queued.len() < 10_000, "the queue has no end");
        queued.push(stream);
    }
    (listener, queued, address)
}

#[test]
fn connects_that_hang_use_no_thread() {
    run_one(|env| async move {
        let (listener, queued, address) = full_listener();
        let ended = Rc::new(Cell::new(0));
        let count = 3 * PLUGIN_THREADS;
        for _ in 0..count {
            let (ended, connect) = (ended.clone(), env.connect(address, super::DEADLINE));
            env.spawn("connecting", async move {
                assert!(connect.await.is_err(), "nothing accepts");
                ended.set(ended.get() + 1);
            });
        }
        for number in 0..100 {
            assert_eq!(env.blocking(move || number).await, number);
        }
        assert_eq!(ended.get(), 0, "none has ended while jobs ran");
        let late = env.connect(address, Duration::from_millis(50)).await.err().expect("nothing accepts");
        assert_eq!(late.kind(), ErrorKind::TimedOut, "{late}");
        // The kernel tries again, and finds nothing that listens.
        drop((listener, queued));
        while ended.get() < count {
            env.sleep(Duration::from_millis(5)).await;
        }
        let refused = env.connect(address, super::DEADLINE).await.err().expect("nothing listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
    });
}

#[test]
fn connect_that_is_given_up_is_not_cancelled_and_closes_what_it_gets() {
    run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        for round in 0..100u64 {
            let (connect, pause) =
                (env.connect(listener.local_address(), super::DEADLINE), env.sleep(Duration::from_micros(round)));
            futures_lite::future::or(async { drop(connect.await) }, pause).await;
            let mut server = listener.accept().await.expect("connected");
            assert_eq!(server.read(&mut [0; 8]).await.expect("the end"), 0);
        }
    });
}

#[test]
fn names_are_looked_up_by_the_system() {
    run_one(|env| async move {
        let all = env.resolve("localhost", super::DEADLINE).await.expect("every machine has it");
        assert!(all.iter().all(|address| address.ip().is_loopback() && address.port() == 0), "{all:?}");
        assert!(!all.is_empty());
        assert!(env.resolve("", super::DEADLINE).await.is_err());
    });
}

/// The kernel may still write into the buffer of a read, and read from that of a write, whose future is gone.
#[test]
fn reads_and_writes_that_are_given_up_keep_their_buffers() {
    run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        for round in 0..200u64 {
            let mut client = env.connect(listener.local_address(), super::DEADLINE).await.expect("listening");
            let mut server: Connection = listener.accept().await.expect("connected");
            let mut buffer = vec![0u8; 64 * 1024];
            let pause = env.sleep(Duration::from_micros(round % 50));
            let read = futures_lite::future::or(async { Some(server.read(&mut buffer).await) }, async {
                pause.await;
                None
            });
            assert!(read.await.is_none(), "nothing was sent yet");
            drop(buffer);
            // Freed memory of the same size is used again, with the bytes of the late answer if somebody writes them there.
            let canary = vec![7u8; 64 * 1024];
            client.write_all(&[1; 512]).await.expect("connected");
            let flood = vec![2u8; 8 << 20];
            let pause = env.sleep(Duration::from_micros(round % 50));
            let write = futures_lite::future::or(async { Some(client.write_all(&flood).await) }, async {
                pause.await;
                None
            });
            assert!(write.await.is_none(), "nobody reads 8 MiB");
            drop(flood);
            drop((client, server));
            env.turn().await;
            assert!(canary.iter().all(|byte| *byte == 7));
        }
    });
}

/// A connection that takes turns with its peer acknowledges late by itself, for its next message may carry the acknowledgement.
#[test]
fn what_answers_a_message_is_acknowledged_at_once() {
    run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        let mut client = env.connect(listener.local_address(), super::DEADLINE).await.expect("listening");
        let mut server: Connection = listener.accept().await.expect("connected");
        let mut buffer = [0u8; 4];
        let mut late = 0;
        for _ in 0..20 {
            client.write_all(b"ping").await.expect("connected");
            late += u32::from(!client.acknowledges_at_once());
            client.flush().await.expect("connected");
            assert!(client.acknowledges_at_once());
            server.read_exact(&mut buffer).await.expect("sent");
            server.write_all(b"pong").await.expect("connected");
            client.read_exact(&mut buffer).await.expect("sent");
        }
        assert!(late > 0, "the kernel would be late by itself");
    });
}

#[test]
fn descriptors_do_not_pass_to_programs_that_are_started() {
    const NAME: &str = "descriptors_do_not_pass_to_programs_that_are_started";
    // Runs in a separate process, because other tests accept connections at the same time.
    if !is_child(NAME) {
        let output = child(&[], "io", NAME).stdin(Stdio::null()).output().expect("the test starts itself");
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        let _client = env.connect(listener.local_address(), super::DEADLINE).await.expect("listening");
        let _server = listener.accept().await.expect("connected");
        let _stream = DescriptorStream::new(std::io::stdin()).expect("open");
        let watch = env.watch().expect("inotify");
        watch.add(Path::new("/")).expect("watched");
        let list = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("coreutils");
        let text = String::from_utf8_lossy(&list.stdout);
        assert!(!text.contains("socket:") && !text.contains("inotify"), "{text}");
    });
}
