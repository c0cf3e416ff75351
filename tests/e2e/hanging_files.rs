//! A file system that never answers, or slowly, below a directory that an input reads: a program that speaks the protocol of FUSE with
//! the kernel and says nothing after the greeting, or everything late.

use crate::case::Case;
use crate::disks::{may_administrate, not_checked};
use crate::lines::{LineCount, block};
use crate::metrics;
use crate::product::{Product, binary, text};
use crate::wait::wait_for;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Mounts a file system at the first argument and answers the first request only. What follows says how it goes on.
const GREETING: &str = r#"
import ctypes, os, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
fuse = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other' + sys.argv[3]
if libc.mount(b'silent', sys.argv[1].encode(), b'fuse', 6, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
request = os.read(fuse, 1 << 20)
unique = struct.unpack('<IIQ', request[:16])[2]
body = struct.pack('<IIIIHHIIHHI', 7, 31, 65536, 0, 12, 12, 65536, 1, 0, 0, 0) + bytes(28)
os.write(fuse, struct.pack('<IiQ', 16 + len(body), 0, unique) + body)
open(sys.argv[2] + '.ready', 'w').close()
"#;

/// Takes no further request. Ends when the second argument exists, or with the process that started it.
const IGNORES: &str = r#"
libc.prctl(1, 9)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.1)
"#;

/// Takes requests and never answers them: then no signal ends who waits. Ends when the second argument exists, or after two minutes, since
/// it must not end with the process that waits.
const TAKES: &str = r#"
def take():
    while True:
        os.read(fuse, 1 << 20)
threading.Thread(target=take, daemon=True).start()
for _ in range(1200):
    if os.path.exists(sys.argv[2]):
        break
    time.sleep(0.1)
"#;

/// Mounts a file system at the first argument with the files in the directory of the third one. Each call takes a second and a half, and
/// each read of the first file takes six.
const LATE: &str = r#"
import ctypes, os, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9)  # It ends with the process that started it.
source = sys.argv[3]
names = sorted(os.listdir(source))
fuse = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fuse},rootmode=40000,user_id=65534,group_id=65534,allow_other'
if libc.mount(b'late', sys.argv[1].encode(), b'fuse', 6, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))

def content(node):
    with open(os.path.join(source, names[node - 2]), 'rb') as file:
        return file.read()

def attributes(node):
    is_root = node == 1
    size = 0 if is_root else len(content(node))
    mode = 0o40755 if is_root else 0o100644
    return struct.pack('<6Q10I', node, size, 8, 1, 1, 1, 0, 0, 0, mode, 2 if is_root else 1, 65534, 65534, 0, 4096, 0)

def names_from(place):
    out = b''
    for number, name in list(enumerate(names))[place:]:
        entry = struct.pack('<QQII', number + 2, number + 1, len(name), 8) + name.encode()
        out += entry + bytes(-len(entry) % 8)
    return out

def answer(request):
    length, call, unique, node = struct.unpack('<IIQQ', request[:24])
    body, error = b'', 0
    if call in (2, 36, 42):
        return
    if call == 26:
        body = struct.pack('<IIIIHHIIHHI', 7, 31, 65536, 0, 12, 12, 65536, 1, 0, 0, 0) + bytes(28)
    else:
        time.sleep(6 if call == 15 and node == 2 else 1.5)
    if call == 1:
        name = request[40:length].rstrip(b'\0').decode()
        if name in names:
            found = names.index(name) + 2
            body = struct.pack('<QQQQII', found, 0, 0, 0, 0, 0) + attributes(found)
        else:
            error = 2
    elif call == 3:
        body = struct.pack('<QII', 0, 0, 0) + attributes(node)
    elif call in (14, 27):
        body = struct.pack('<QII', node, 1, 0)
    elif call == 15:
        _, offset, size = struct.unpack('<QQI', request[40:60])
        body = content(node)[offset:offset + size]
    elif call == 28:
        _, offset = struct.unpack('<QQ', request[40:56])
        body = names_from(offset)
    elif call == 17:
        body = struct.pack('<5Q4I', 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24)
    elif call not in (18, 25, 26, 29, 34):
        error = 38
    os.write(fuse, struct.pack('<IiQ', 16 + len(body), -error, unique) + body)

def serve():
    while True:
        try:
            request = os.read(fuse, 1 << 20)
        except OSError:
            return
        threading.Thread(target=answer, args=(request,), daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
open(sys.argv[2] + '.ready', 'w').close()
while not os.path.exists(sys.argv[2]):
    time.sleep(0.1)
"#;

/// Whether this machine can have such a file system.
fn may_hang(what: &str) -> bool {
    if !may_administrate(what) {
        return false;
    }
    let has_python = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    let why = match (Path::new("/dev/fuse").exists(), has_python) {
        (true, Ok(status)) if status.success() => return true,
        (false, _) => "there is no /dev/fuse",
        _ => "there is no python3",
    };
    not_checked(what, why);
    false
}

/// A command of the product where a directory of the case is such a file system.
fn command(case: &Case, verb: &str, config: &Path, at: &str, options: &str) -> Command {
    command_with(&format!("{GREETING}{IGNORES}"), case, verb, config, at, options)
}

fn command_with(program: &str, case: &Case, verb: &str, config: &Path, at: &str, options: &str) -> Command {
    fs::create_dir_all(case.path(at)).expect("a directory");
    case.write("silent.py", program.as_bytes());
    let script = "mount --make-rprivate / && { python3 \"$0\" \"$1\" \"$2\" \"$3\" <&- >&- & } && \
                  while [ ! -e \"$2.ready\" ]; do kill -0 $! || exit 1; sleep 0.05; done; shift 3; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(case.path("silent.py")).arg(case.path(at));
    command.arg(case.path("answer")).arg(options);
    // A command that hangs must not keep the test.
    command.args(["timeout", "-s", "KILL", "60"].into_iter().filter(|_| verb != "run"));
    command.arg(binary()).args([verb, "-c"]).arg(config).stdin(Stdio::null());
    command
}

/// What a case of this kind has: the product, and what it has delivered.
struct Hanging {
    product: Product,
    case: Case,
    count: LineCount,
    written: u64,
}

impl Hanging {
    fn start(name: &str, include: &[&str], at: &str, options: &str) -> Hanging {
        let case = Case::new(name);
        let include: Vec<String> = include.iter().map(|glob| format!("\"{}\"", case.path(glob).display())).collect();
        let input = format!("{{type: file, include: [{}]}}", include.join(", "));
        let config = case.configure(&input, &case.json_output());
        fs::create_dir(case.path("logs/app")).expect("a directory");
        let mut product = Product::start_with(&case, &mut command(&case, "run", &config, at, options));
        product.expect("no answer for");
        // When the file system ends.
        product.expect("Transport endpoint is not connected");
        let count = LineCount::of(case.output());
        Hanging { case, product, count, written: 0 }
    }

    /// A file that is made now is found and delivered.
    fn goes_on(&mut self) {
        let (from, to) = (self.written + 1, self.written + 100);
        self.case.write(&format!("logs/app/{from}.log"), &block(from, to));
        self.written = to;
        self.count.wait(to, &mut self.product);
    }

    fn wait_for_gauge(&self, paths: u64) {
        wait_for("the gauge", || match metrics::sum(self.case.admin_port, "tailwater_files_hanging", &[])? {
            hanging if hanging == paths => Ok(()),
            hanging => Err(format!("{hanging} paths hang")),
        });
    }
}

#[test]
fn directory_that_hangs_delays_no_other_file_and_no_stop() {
    if !may_hang("a directory that hangs") {
        return;
    }
    let mut hanging = Hanging::start("hangs", &["logs/**/*.log"], "logs/dead/mount", "");
    hanging.goes_on();
    hanging.product.wait_for_log(&["no answer for 10 seconds", "logs/dead/mount", "it is set aside"]);
    hanging.wait_for_gauge(1);
    hanging.goes_on();
    let told = hanging.product.log().matches("no answer for 10 seconds").count();
    assert_eq!(told, 1, "{}", hanging.product.log());
    let begun = Instant::now();
    let Hanging { case, product, written, .. } = hanging;
    product.finish(&case.output(), written);
    // drain_timeout is more.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    case.write("answer", b"");
}

/// A process that cannot end keeps its descriptors, but neither the lock of its data directory nor the port of its endpoint.
#[test]
fn next_start_works_while_a_call_of_the_process_before_never_returns() {
    if !may_hang("a process that cannot end") {
        return;
    }
    let case = Case::new("undead");
    let config = case.files_to_file("logs/**/*.log");
    let program = format!("{GREETING}{TAKES}");
    let mut first =
        Product::start_with(&case, &mut command_with(&program, &case, "run", &config, "logs/dead/mount", ""));
    for part in ["no answer for", "Transport endpoint is not connected"] {
        first.expect(part);
    }
    case.write("logs/a.log", &block(1, 100));
    LineCount::of(case.output()).wait(100, &mut first);
    first.wait_for_log(&["no answer for 10 seconds", "logs/dead/mount"]);
    first.signal("TERM");
    first.wait_for_log(&["\"ended\""]);
    let mut second = Product::start(&case, &config);
    second.wait_for_log(&["admin endpoint: /livez"]);
    case.write("logs/b.log", &block(101, 200));
    LineCount::of(case.output()).wait(200, &mut second);
    assert!(first.is_running(), "its call has not returned");
    case.write("answer", b"");
    first.wait();
    second.finish(&case.output(), 200);
}

/// The program of the file system dies, and the mount point is free again some time later.
#[test]
fn directory_that_hung_is_read_after_its_file_system_went() {
    if !may_hang("a directory whose file system goes") {
        return;
    }
    let mut hanging = Hanging::start("hung", &["logs/**/*.log"], "logs/dead/mount", "");
    hanging.goes_on();
    hanging.product.wait_for_log(&["no answer for 10 seconds", "logs/dead/mount"]);
    hanging.case.write("answer", b"");
    hanging.product.wait_for_log(&["logs/dead/mount: the directory cannot be looked at", "retrying"]);
    let pid = hanging.product.id().to_string();
    let mut unmount = Command::new("nsenter");
    unmount.args(["-m", "-t", &pid, "umount", "-l"]).arg(hanging.case.path("logs/dead/mount"));
    assert!(unmount.status().expect("a status").success());
    let (from, to) = (hanging.written + 1, hanging.written + 100);
    hanging.case.write("logs/dead/mount/back.log", &block(from, to));
    hanging.count.wait(to, &mut hanging.product);
    let Hanging { case, product, .. } = hanging;
    product.finish(&case.output(), to);
}

/// A start looks at who can exchange the fixed parts of patterns, and goes on without an answer.
#[test]
fn fixed_part_that_hangs_delays_no_other_and_answers_later() {
    if !may_hang("a fixed part that hangs") {
        return;
    }
    let mut hanging = Hanging::start("hangs-fixed", &["logs/**/*.log", "dead/logs/*.log"], "dead", "");
    hanging.goes_on();
    hanging.product.wait_for_log(&["/dead", "no answer for 2 seconds: the start goes on without it"]);
    hanging.product.wait_for_log(&["/dead", "no answer for 10 seconds", "it is set aside"]);
    hanging.wait_for_gauge(1);
    hanging.goes_on();
    // The end of its program answers all calls.
    hanging.case.write("answer", b"");
    hanging.product.wait_for_log(&["/dead/logs: it answers"]);
    hanging.wait_for_gauge(0);
    hanging.goes_on();
    let Hanging { case, product, written, .. } = hanging;
    product.finish(&case.output(), written);
}

/// Commands that only look end with the path that does not answer.
#[test]
fn checks_end_although_a_fixed_part_hangs() {
    if !may_hang("commands and a fixed part that hangs") {
        return;
    }
    for (verb, told) in [("validate", "dead/logs: no answer for 20 seconds"), ("doctor", "no answer for 5 seconds")] {
        let case = Case::new(&format!("hangs-{verb}"));
        let input = format!("{{type: file, include: [\"{}/*.log\"]}}", case.path("dead/logs").display());
        let config = case.configure(&input, &case.json_output());
        let output = command(&case, verb, &config, "dead", "").output().expect("it starts");
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(said.contains(told), "{verb}: {said}");
        assert_eq!(output.status.code(), Some(1), "{verb}: {said}");
        case.write("answer", b"");
    }
}

/// A user mounts a file system that answers late. How long others wait is shown by simulation (`inputs/file/tests/hanging.rs`).
#[test]
fn file_system_that_is_slow_is_read_beside_others() {
    if !may_hang("a file system that is slow") {
        return;
    }
    let case = Case::new("late");
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/**/*.log").display());
    let config = case.configure(&input, &case.json_output());
    for directory in ["logs/app", "source"] {
        fs::create_dir(case.path(directory)).expect("a directory");
    }
    for file in 0..2 {
        case.write(&format!("source/{file}.log"), &block(file * 100 + 1, file * 100 + 100));
    }
    let source = case.path("source").display().to_string();
    let command = &mut command_with(LATE, &case, "run", &config, "logs/late/mount", &source);
    let mut product = Product::start_with(&case, command);
    // It is said of files whose calls are all answered: several of them are one step.
    product.expect("no answer for 10 seconds");
    let mut written = 200;
    for _ in 0..20 {
        case.write(&format!("logs/app/{written}.log"), &block(written + 1, written + 100));
        written += 100;
        let last = format!(":{written:06},");
        wait_for("the last line", || {
            let delivered = fs::read(case.output()).unwrap_or_default();
            memchr::memmem::find(&delivered, last.as_bytes()).map(drop).ok_or_else(|| last.clone())
        });
    }
    let mut count = LineCount::of(case.output());
    count.wait(written, &mut product);
    product.finish(&case.output(), written);
    case.write("answer", b"");
}
