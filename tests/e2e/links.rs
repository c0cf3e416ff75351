//! An ordinary user against a product that may read everything: links, exchanges, and things that are no files, in a directory
//! that he owns. And links as they are meant, in the layout of Kubernetes.

use crate::case::Case;
use crate::lines::block;
use crate::metrics;
use crate::product::{Product, give_away, is_root};
use crate::running::{Running, append};
use crate::wait::wait_for;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// What no line of the output may contain.
const SECRET: &str = "SECRET";

/// Runs a script as an ordinary user; without root as this one.
fn as_stranger(folder: &Path, script: &str) {
    let mut command = Command::new(if is_root() { "setpriv" } else { "sh" });
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh"]);
    }
    let status = command.arg("-ec").arg(script).current_dir(folder).status().expect("a shell");
    assert!(status.success(), "{script}");
}

/// A directory of the stranger in `logs/`, and a file and a directory that only root can read.
fn case_of(name: &str) -> Case {
    let case = Case::new(name);
    for folder in ["logs/eve", "secret"] {
        fs::create_dir(case.path(folder)).expect("a folder");
    }
    give_away(&case.path("logs/eve"));
    let secret: String = (0..100).map(|number| format!("{SECRET} {number}\n")).collect();
    for file in ["secret/app.log", "secret/root.log"] {
        let path = case.write(file, secret.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    }
    fs::set_permissions(case.path("secret"), fs::Permissions::from_mode(0o700)).expect("permissions");
    case
}

fn assert_nothing_secret(case: &Case) {
    let output = fs::read_to_string(case.output()).expect("the output");
    assert!(!output.contains(SECRET), "what only root may read was delivered");
}

fn wait_for_skipped(running: &mut Running, links: u64) {
    wait_for(&format!("{links} skipped links"), || {
        match metrics::sum(running.case.admin_port, "tailwater_file_links_skipped", &[])? {
            found if found == links => Ok(()),
            found => Err(format!("{found}; {}", running.product.state())),
        }
    });
}

#[test]
fn links_of_a_stranger_lead_nowhere() {
    let case = case_of("links");
    let secret = case.path("secret").display().to_string();
    as_stranger(
        &case.path("logs/eve"),
        &format!(
            "ln -s {secret}/root.log file.log; ln -s {secret} directory; mkdir deep; ln -s ../../../secret/root.log deep/up.log; \
             ln -s {secret} deep/er; mkfifo pipe.log; ln -s /dev/zero device.log; ln -s /proc/self/environ self.log"
        ),
    );
    // Where the kernel protects hard links, only root can make this one.
    fs::hard_link(case.path("secret/root.log"), case.path("logs/eve/hard.log")).expect("a link");
    // A directory of root's to which everybody may write.
    fs::create_dir(case.path("logs/all")).expect("a folder");
    fs::set_permissions(case.path("logs/all"), fs::Permissions::from_mode(0o1777)).expect("permissions");
    fs::hard_link(case.path("secret/root.log"), case.path("logs/all/hard.log")).expect("a link");
    let socket = UnixListener::bind(case.path("logs/eve/socket.log")).expect("a socket");
    append(&case.path("logs/eve/good.log"), &block(1, 100));
    let mut running = Running::start(case, "logs/**/*.log", "");
    for part in ["pipe.log", "socket.log", "it is skipped"] {
        running.product.expect(part);
    }
    running.wait(100);
    wait_for_skipped(&mut running, 8);
    // What was followed becomes a link.
    let script = "ln -s ../../secret/app.log next; mv good.log kept; mv next good.log";
    as_stranger(&running.case.path("logs/eve"), script);
    wait_for_skipped(&mut running, 9);
    append(&running.case.path("logs/eve/last.log"), &block(101, 200));
    running.product.wait_for_log(&["follow_links: true"]);
    running.product.wait_for_log(&["hard_links: any"]);
    let (case, _) = running.finish(200);
    assert_nothing_secret(&case);
    drop(socket);
}

#[test]
fn links_that_are_followed_lead_only_to_their_targets() {
    let case = case_of("followed-links");
    fs::create_dir_all(case.path("pods/private")).expect("folders");
    let script = "ln -s ../../secret/root.log a.log; ln -s ../../secret directory; ln -s ../../pods/private/x.log b.log; \
                  ln -s ../../pods/private hidden; ln -s ../../pods/0 good.log";
    as_stranger(&case.path("logs/eve"), script);
    case.write("pods/private/x.log", b"SECRET\n");
    append(&case.path("pods/0"), &block(1, 100));
    let settings =
        format!(", follow_links: true, link_targets: [\"{}\"], exclude: [private]", case.path("pods").display());
    let mut running = Running::start(case, "logs/**/*.log", &settings);
    running.product.expect("it is skipped");
    running.wait(100);
    wait_for_skipped(&mut running, 4);
    append(&running.case.path("pods/0"), &block(101, 200));
    running.product.wait_for_log(&["add the directory of its target to `link_targets`"]);
    running.product.wait_for_log(&["which is excluded"]);
    let (case, _) = running.finish(200);
    assert_nothing_secret(&case);
}

/// The link leads to a directory above the excluded one, so no path below it has the name in the pattern.
#[test]
fn link_to_a_directory_above_an_excluded_one_is_no_way_into_it() {
    for (name, exclude) in [("above-files", "/*"), ("above-all", "/**"), ("above-slash", "/"), ("above-path", "/0.log")]
    {
        let case = case_of(name);
        for folder in ["pods/closed", "pods/open"] {
            fs::create_dir_all(case.path(folder)).expect("folders");
        }
        case.write("pods/closed/0.log", b"SECRET\n");
        append(&case.path("pods/open/0.log"), &block(1, 100));
        as_stranger(&case.path("logs/eve"), "ln -s ../../pods x; ln -s x/closed/0.log y.log; ln -s ../eve/x/closed z");
        let pods = case.path("pods").display().to_string();
        let settings =
            format!(", follow_links: true, link_targets: [\"{pods}\"], exclude: [\"{pods}/closed{exclude}\"]");
        let mut running = Running::start(case, "logs/**", &settings);
        running.product.expect("it is skipped");
        running.wait(100);
        append(&running.case.path("pods/closed/0.log"), b"SECRET\n");
        append(&running.case.path("pods/open/0.log"), &block(101, 200));
        let (case, _) = running.finish(200);
        assert_nothing_secret(&case);
    }
}

/// Root makes the link, as a stranger could where the kernel does not protect hard links. Then the owner removes his name.
#[test]
fn last_name_of_a_file_that_was_skipped_is_not_read() {
    let case = case_of("last-name");
    fs::hard_link(case.path("secret/root.log"), case.path("logs/eve/grab.log")).expect("a link");
    append(&case.path("logs/eve/good.log"), &block(1, 100));
    let mut running = Running::start(case, "logs/**", "");
    running.product.expect("it is skipped");
    running.wait(100);
    wait_for_skipped(&mut running, 1);
    fs::remove_file(running.case.path("secret/root.log")).expect("a removal");
    as_stranger(&running.case.path("logs/eve"), "mv grab.log mine.log; touch other.log");
    append(&running.case.path("logs/eve/good.log"), &block(101, 200));
    running.wait(200);
    running.wait_for_files(2);
    wait_for_skipped(&mut running, 1);
    let (case, _) = running.finish(200);
    assert_nothing_secret(&case);
}

/// Everything before the wildcard is the stranger's: he puts a link in the place of his directory.
#[test]
fn link_in_the_place_of_a_directory_before_the_wildcard_is_not_followed() {
    if !is_root() {
        return;
    }
    let case = case_of("fixed-part");
    let eve = case.path("logs/eve");
    as_stranger(&eve, "mkdir logs real; ln -s real current");
    append(&eve.join("logs/good.log"), &block(1, 100));
    append(&eve.join("real/good.log"), &block(101, 200));
    let include = [eve.join("logs/*.log"), eve.join("current/*.log")].map(|path| format!("\"{}\"", path.display()));
    let config = case.configure(&format!("{{type: file, include: [{}]}}", include.join(", ")), &case.json_output());
    let product = Product::start(&case, &config);
    let mut running = Running::of(case, config, product);
    running.product.expect("belongs to the user with the number 65534");
    running.product.expect("nothing is read there");
    running.wait(200);
    running.product.wait_for_log(&["belongs to the user with the number 65534"]);
    as_stranger(&eve, "mv logs old; ln -s ../../secret logs");
    running.product.wait_for_log(&["nothing is read there", "to something that is not his"]);
    append(&running.case.path("secret/app.log"), b"SECRET\n");
    append(&eve.join("real/good.log"), &block(201, 300));
    let (case, _) = running.finish(300);
    assert_nothing_secret(&case);
}

/// Exchanges something for a link until it is told to stop. Returns how often.
fn exchange(original: &Path, link: &Path, name: &Path, stop: &AtomicBool) -> u64 {
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        fs::rename(name, original).expect("away");
        fs::rename(link, name).expect("a link");
        fs::rename(name, link).expect("away");
        fs::rename(original, name).expect("back");
        times += 1;
    }
    times
}

/// A file and a directory are exchanged for links as fast as possible, while new names and changes cause looks and openings.
fn exchanged(name: &str, settings: &str) {
    let case = case_of(name);
    let eve = case.path("logs/eve");
    as_stranger(&eve, "mkdir d; touch x.log");
    let drafts = case.path("drafts");
    fs::create_dir(&drafts).expect("a folder");
    for link in ["x", "d"] {
        let target = if link == "x" { case.path("secret/root.log") } else { case.path("secret") };
        symlink(target, drafts.join(link)).expect("a link");
    }
    append(&eve.join("x.log"), b"harmless\n");
    // The directory itself, whatever its name leads to.
    let directory = fs::File::open(eve.join("d")).expect("a folder");
    let inside = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
    let mut running = Running::start(case, "logs/**/*.log", settings);
    running.product.expect("");
    let stop = AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        let of = |draft: &str, name: &str| {
            exchange(&drafts.join(format!("{draft}-away")), &drafts.join(draft), &eve.join(name), &stop)
        };
        let file = scope.spawn(move || of("x", "x.log"));
        let directory = scope.spawn(move || of("d", "d"));
        for round in 1..=150 {
            // Names that are in root's directory as well come, change and go.
            fs::write(inside("root.log"), format!("harmless {round}\n")).expect("written");
            append(&inside("app.log"), format!("harmless {round}\n").as_bytes());
            if round % 5 == 0 {
                fs::remove_file(inside("app.log")).expect("a removal");
            }
            append(&eve.join("good.log"), format!("good {round}.\n").as_bytes());
            wait_for("a line of a file that stays", || {
                let output = fs::read_to_string(running.case.output()).unwrap_or_default();
                if output.contains(&format!("good {round}.")) { Ok(()) } else { Err(running.product.state()) }
            });
        }
        stop.store(true, Ordering::Relaxed);
        file.join().expect("exchanges") + directory.join().expect("exchanges")
    });
    assert!(times > 2_000, "only {times} exchanges");
    let case = running.terminate().case;
    assert_nothing_secret(&case);
}

#[test]
fn exchanging_files_and_directories_for_links_delivers_nothing_of_the_target() {
    exchanged("exchange", "");
}

#[test]
fn exchanging_where_links_are_followed_delivers_nothing_of_the_target() {
    exchanged("exchange-follow", ", follow_links: true");
}

/// The log of Tailwater itself, and what it writes: each line read would make another one.
#[test]
fn own_files_are_not_read_under_any_name() {
    let case = Case::new("own-files");
    for (target, name) in [("out", "out.d"), ("data", "data.d"), ("", "all.d")] {
        symlink(case.path(target), case.path("logs").join(name)).expect("a link");
    }
    append(&case.path("logs/good.log"), &block(1, 100));
    let folder = case.path("").display().to_string();
    let settings =
        format!(", follow_links: true, link_targets: [\"{folder}\"], hard_links: any, exclude: [\"*.yaml\"]");
    let mut running = Running::start(case, "logs/**/*", &settings);
    running.product.expect("events.json");
    running.product.expect("hard.log");
    running.product.expect("data.d");
    running.product.expect("similar lines");
    running.product.expect("product-");
    running.wait(100);
    // An output opens no file with several names: it gets this one afterwards.
    fs::hard_link(running.case.path("out/events.json"), running.case.path("logs/hard.log")).expect("a link");
    running.product.wait_for_log(&["standard error of Tailwater"]);
    running.product.wait_for_log(&["standard output of Tailwater"]);
    append(&running.case.path("logs/good.log"), &block(101, 200));
    let (_, all) = running.finish(200);
    all.assert_exactly_once();
}

/// A segment of the write-ahead log under another name, which root made: each line read would make it longer.
#[test]
fn segments_are_not_read_under_another_name() {
    let case = Case::new("segments");
    append(&case.path("logs/good.log"), &block(1, 100));
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait(100);
    let logs =
        fs::read_dir(running.case.path("data/wal")).expect("the log").map(|entry| entry.expect("an entry").path());
    let segment = |log: PathBuf| {
        let names = fs::read_dir(log).expect("its segments").map(|entry| entry.expect("an entry").path());
        names.into_iter().find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"0")))
    };
    let segment = logs.into_iter().find_map(segment).expect("a segment");
    running.product.expect("hard.log");
    fs::hard_link(segment, running.case.path("logs/hard.log")).expect("a link");
    running.product.wait_for_log(&["hard.log", "it is a segment of"]);
    append(&running.case.path("logs/good.log"), &block(101, 200));
    let (_, all) = running.finish(200);
    all.assert_exactly_once();
}

/// `/var/log/containers/*.log` leads to `/var/log/pods`, and that to `/var/lib/docker/containers`. A container's log is rotated
/// while Tailwater is down.
#[test]
fn logs_of_containers_are_read_through_their_links() {
    let case = Case::new("containers");
    for folder in ["logs/containers", "logs/pods/app", "docker/1"] {
        fs::create_dir_all(case.path(folder)).expect("folders");
    }
    let log = case.path("docker/1/1-json.log");
    append(&log, &block(1, 500));
    symlink("../../../docker/1/1-json.log", case.path("logs/pods/app/0.log")).expect("a link");
    symlink("../pods/app/0.log", case.path("logs/containers/app.log")).expect("a link");
    let targets = [case.path("logs/pods"), case.path("docker")].map(|path| format!("\"{}\"", path.display()));
    let settings = format!(", follow_links: true, link_targets: [{}]", targets.join(", "));
    let mut running = Running::start(case, "logs/containers/*.log", &settings);
    running.wait(500);
    append(&log, &block(501, 600));
    running.wait(600);
    metrics::wait_for_sync(running.case.admin_port, &mut running.product);
    let stopped = running.kill();
    append(&log, &block(601, 1_000));
    fs::rename(&log, stopped.case.path("docker/1/1-json.log.1")).expect("a rename");
    append(&log, &block(1_001, 1_500));
    let mut running = stopped.start();
    running.wait(1_500);
    fs::rename(&log, running.case.path("docker/1/1-json.log.2")).expect("a rename");
    append(&log, &block(1_501, 2_000));
    let (_, all) = running.finish(2_000);
    all.assert_exactly_once();
}
