//! An ordinary user owns a directory that an output of root writes to, and exchanges what is in it: for links to what only root may
//! read, hard links, pipes, leased files, while the product runs and while it is down.
//!
//! Guarantees that are checked: the files of root stay byte for byte, and nothing is made beside them; the files of everybody else
//! get each line exactly once, over kills; a lease keeps nobody waiting.
//!
//! The stranger is a process of an ordinary user (`setpriv`), in Perl, since the shell knows neither leases nor exchanges.

use crate::case::Case;
use crate::disks::{Mount, may_administrate, not_checked, run};
use crate::metrics;
use crate::product::{NOBODY, Product, binary, give_away, is_root};
use crate::running::append;
use crate::wait::wait_for;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SECRET: &[u8] = b"root:secret\nof which nothing may change, and which is longer than a few events are\n";

/// What the product may say about attacks.
const SAID: [&str; 10] = [
    "is a symbolic link, which is not followed",
    "names (hard links)",
    "is not restored",
    "is another file now",
    "is missing, with",
    "another file has its name by now",
    "is being replaced",
    "dead letter",
    "more than its last commit",
    "it is a named pipe",
];

/// A collector of root, a directory of a stranger among its outputs, and a file of root.
pub struct Attacked {
    pub case: Case,
    config: PathBuf,
    lines: u64,
}

impl Attacked {
    pub fn new(name: &str) -> Attacked {
        Attacked::on(Case::new(name), "")
    }

    /// With `more` settings of the output.
    pub fn on(case: Case, more: &str) -> Attacked {
        fs::create_dir_all(case.path("out/tenant/web")).expect("directories");
        give_away(&case.path("out/tenant"));
        give_away(&case.path("out/tenant/web"));
        fs::create_dir(case.path("victim")).expect("a directory");
        let attacked = Attacked { config: configure(&case, more), case, lines: 0 };
        attacked.reset_victim();
        attacked
    }

    /// A directory of root with a file of the name that the output writes, and another one.
    fn reset_victim(&self) {
        for name in ["x.log", "secret"] {
            self.case.write(&format!("victim/{name}"), SECRET);
            let path = self.case.path(&format!("victim/{name}"));
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
        }
        fs::set_permissions(self.case.path("victim"), fs::Permissions::from_mode(0o700)).expect("permissions");
    }

    fn start(&self) -> Product {
        self.start_with(&mut Command::new(binary()))
    }

    /// Starts it with a command that runs the product with these arguments.
    pub fn start_with(&self, command: &mut Command) -> Product {
        let command = command.arg("run").arg("-c").arg(&self.config).stdin(Stdio::null());
        let mut product = Product::start_with(&self.case, command);
        SAID.into_iter().for_each(|part| product.expect(part));
        product
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.case.path(below)
    }

    /// Writes an event for the stranger's file and one for that of another tenant, and waits until the other one has its line.
    pub fn write(&mut self, product: &mut Product) {
        self.lines += 1;
        let event = |svc: &str, h: &str| format!("{{\"svc\":\"{svc}\",\"h\":\"{h}\",\"n\":{}}}\n", self.lines);
        let both = event("tenant", "web") + &event("other", "web");
        append(&self.path("logs/app.log"), both.as_bytes());
        self.wait(product);
    }

    /// Waits until the other tenant has each line exactly once.
    fn wait(&self, product: &mut Product) {
        let path = self.path("out/other/web/x.log");
        wait_for("the lines of the other tenant", || match numbers(&path) {
            found if found.len() as u64 >= self.lines => Ok(()),
            found => Err(format!("{} of {} lines; {}", found.len(), self.lines, product.state())),
        });
        assert_eq!(numbers(&path), (1..=self.lines).collect::<Vec<_>>(), "{}", product.state());
    }

    /// Nothing of root has changed.
    pub fn check(&self, product: &mut Product) {
        let state = |path: &str| fs::read(self.path(path)).expect("it is there");
        for name in ["victim/x.log", "victim/secret"] {
            assert_eq!(
                String::from_utf8_lossy(&state(name)),
                String::from_utf8_lossy(SECRET),
                "{name}; {}",
                product.state()
            );
            let metadata = fs::metadata(self.path(name)).expect("it is there");
            assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o600), "{name}");
        }
        let mut names: Vec<_> = fs::read_dir(self.path("victim"))
            .expect("it is there")
            .map(|one| one.expect("a name").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["secret", "x.log"], "{}", product.state());
    }
}

fn configure(case: &Case, more: &str) -> PathBuf {
    let input = format!("{{type: file, include: [\"{}\"], parse: json}}", case.path("logs/*.log").display());
    let output = format!(
        "{{type: file, path: \"{}/{{{{ svc | default('none') }}}}/{{{{ h | default('none') }}}}/x.log\", retry: {{initial: 50ms, \
         max: 500ms}}{more}}}",
        case.path("out").display()
    );
    case.configure(&input, &output)
}

/// The numbers of the events in a file.
pub fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.filter_map(|event| event["n"].as_u64()).collect()
}

/// A Perl program of an ordinary user, in a directory of the case.
fn stranger(directory: &Path, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
    command.args(["perl", "-e", program]).current_dir(directory).stdin(Stdio::null());
    command
}

/// Lets the stranger do something once.
pub fn does(directory: &Path, program: &str) {
    let output = stranger(directory, program).output().expect("perl and setpriv are there");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Something that the stranger keeps doing, until this is dropped.
pub struct Keeps(Child);

impl Keeps {
    pub fn doing(directory: &Path, program: &str) -> Keeps {
        Keeps(stranger(directory, program).spawn().expect("perl and setpriv are there"))
    }
}

impl Drop for Keeps {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn may_attack(what: &str) -> bool {
    if !is_root() {
        not_checked(what, "it needs root, to be attacked by somebody else");
    }
    is_root()
}

/// The number of `renameat2`.
const RENAMEAT2: u32 = if cfg!(target_arch = "aarch64") { 276 } else { 316 };

/// Perl: exchanges two names. What it is not allowed to, or finds missing, it leaves.
fn exchange((one, other): (&str, &str)) -> String {
    format!("my ($one, $other) = ('{one}', '{other}'); syscall({RENAMEAT2}, -100, $one, -100, $other, 2);")
}

#[test]
fn linked_directories_and_files_lead_the_output_nowhere() {
    if !may_attack("links in a directory of an output") {
        return;
    }
    let mut attacked = Attacked::new("out-links");
    let (tenant, victim) = (attacked.path("out/tenant"), attacked.path("victim"));
    let attacks = [
        format!("rename 'web', 'web-was'; symlink '{}', 'web' or die $!", victim.display()),
        format!("rename 'web/x.log', 'web/was'; symlink '{}', 'web/x.log' or die $!", victim.join("secret").display()),
        // To the files of the other tenant, which are below the fixed part as well.
        "rename 'web', 'web-was'; symlink '../other/web', 'web' or die $!".to_owned(),
        "unlink 'web/x.log'; symlink '../../other/web/x.log', 'web/x.log' or die $!".to_owned(),
        "unlink 'web/x.log'; system('mkfifo', 'web/x.log') == 0 or die".to_owned(),
        "unlink 'web/x.log'; mkdir 'web/x.log' or die $!".to_owned(),
    ];
    // Each one while it runs, and while it is down.
    for attack in &attacks {
        for is_down in [false, true] {
            let mut product = attacked.start();
            attacked.write(&mut product);
            if !is_down {
                does(&tenant, attack);
                // The output looks at its files once a second, and then knows.
                (0..3).for_each(|_| attacked.write(&mut product));
                attacked.check(&mut product);
                does(&tenant, "system('rm -rf web web-was; mkdir web') == 0 or die");
                attacked.write(&mut product);
            }
            product.kill();
            if is_down {
                does(&tenant, attack);
                let mut product = attacked.start();
                attacked.write(&mut product);
                attacked.check(&mut product);
                product.kill();
                does(&tenant, "system('rm -rf web web-was; mkdir web') == 0 or die");
            }
        }
    }
    let mut product = attacked.start();
    attacked.write(&mut product);
    attacked.check(&mut product);
    product.terminate();
}

/// Root makes the links: where `fs.protected_hardlinks` is 0, anyone may.
#[test]
fn hard_links_to_files_of_root_are_neither_cut_nor_written() {
    if !may_attack("hard links in a directory of an output") {
        return;
    }
    let mut attacked = Attacked::new("out-hard-links");
    let file = attacked.path("out/tenant/web/x.log");
    let mut product = attacked.start();
    attacked.write(&mut product);
    product.kill();
    // The file that the commit names gets the content and another name: what is behind the commit would be cut.
    append(&file, SECRET);
    fs::hard_link(&file, attacked.path("victim/third")).expect("a link");
    let before = fs::read(&file).expect("it is there");
    let mut product = attacked.start();
    attacked.write(&mut product);
    assert_eq!(fs::read(attacked.path("victim/third")).expect("it is there"), before);
    fs::remove_file(attacked.path("victim/third")).expect("it is there");
    fs::remove_file(&file).expect("it is there");
    fs::hard_link(attacked.path("victim/secret"), &file).expect("a link");
    attacked.write(&mut product);
    attacked.check(&mut product);
    product.kill();
    let mut product = attacked.start();
    attacked.write(&mut product);
    attacked.check(&mut product);
    wait_for("dead letters for the file", || match dead_letters(&attacked.case)? {
        0 => Err(product.state()),
        _ => Ok(()),
    });
    product.terminate();
}

pub fn dead_letters(case: &Case) -> Result<u64, String> {
    metrics::sum(case.admin_port, "tailwater_component_dead_lettered_events_total", &["component_kind=\"output\""])
}

/// Names that change all the time, over kills: whatever a check saw, the next call may find something else.
#[test]
fn exchanges_without_end_lead_the_output_nowhere() {
    if !may_attack("exchanges in a directory of an output") {
        return;
    }
    let mut attacked = Attacked::new("out-exchanges");
    let (tenant, victim) = (attacked.path("out/tenant"), attacked.path("victim"));
    let prepare = |what: &str| format!("symlink '{}', '{what}' or die $!;", victim.display());
    does(&tenant, &prepare("evil"));
    does(
        &tenant,
        &format!(
            "symlink '{}', 'web/evil' or die $!; open(my $f, '>', 'web/x.log') or die $!; print $f 'mine'",
            victim.join("secret").display()
        ),
    );
    for (directory, names) in [("out/tenant", ("web", "evil")), ("out/tenant/web", ("x.log", "evil"))] {
        let program = format!("while (1) {{ {} }}", exchange(names));
        let keeps = Keeps::doing(&attacked.path(directory), &program);
        for _ in 0..4 {
            let mut product = attacked.start();
            (0..5).for_each(|_| attacked.write(&mut product));
            attacked.check(&mut product);
            product.kill();
        }
        drop(keeps);
        does(&attacked.path(directory), &format!("if (-l '{}') {{ {} }}", names.0, exchange(names)));
    }
    let mut product = attacked.start();
    attacked.write(&mut product);
    attacked.check(&mut product);
    product.terminate();
}

/// Without O_NONBLOCK, an open waits for 45 seconds, and with it all events of the output.
#[test]
fn lease_on_a_file_is_a_holder_and_keeps_no_thread_waiting() {
    if !may_attack("leases on files of an output") {
        return;
    }
    let mut attacked = Attacked::new("out-lease");
    let web = attacked.path("out/tenant/web");
    // F_SETLEASE is 1024, F_WRLCK 1.
    let program = "$SIG{IO} = 'IGNORE'; open(my $f, '+>', 'x.log') or die $!; fcntl($f, 1024, 1) or die $!; \
                   open(my $r, '>', 'ready') or die $!; sleep 1 while 1";
    let keeps = Keeps::doing(&web, program);
    wait_for("the lease", || web.join("ready").exists().then_some(()).ok_or_else(String::new));
    let mut product = attacked.start();
    product.expect("through a lease");
    let event = "{\"svc\":\"tenant\",\"h\":\"web\",\"n\":1}\n{\"svc\":\"other\",\"h\":\"web\",\"n\":1}\n";
    append(&attacked.path("logs/app.log"), event.as_bytes());
    wait_for("the second attempt", || {
        match metrics::sum(attacked.case.admin_port, "tailwater_output_held_files_total", &[])? {
            0 | 1 => Err(product.state()),
            _ => Ok(()),
        }
    });
    assert!(
        product.log().contains("x.log: another process, through a lease (fcntl F_SETLEASE), has it open for writing"),
        "{}",
        product.state()
    );
    drop(keeps);
    attacked.lines = 1;
    attacked.wait(&mut product);
    product.terminate();
}

/// The file of the commit is on one file system; a file with its number, its times and its content is on another one.
#[test]
fn same_number_on_another_file_system_is_another_file() {
    if !may_administrate("the same inode number on two file systems") {
        return;
    }
    let mut attacked = Attacked::new("out-devices");
    let web = attacked.path("out/tenant/web");
    let first = Mount::memory(web.clone(), "1m");
    let mut product = attacked.start();
    attacked.write(&mut product);
    wait_for("the file", || web.join("x.log").exists().then_some(()).ok_or_else(String::new));
    let inode = fs::metadata(web.join("x.log")).expect("it is there").ino();
    let written = fs::read(web.join("x.log")).expect("it is there");
    product.kill();
    drop(first);
    let second = Mount::memory(web.clone(), "1m");
    fs::write(web.join("x.log"), [&written, SECRET].concat()).expect("a file");
    assert_eq!(fs::metadata(web.join("x.log")).expect("it is there").ino(), inode, "that is the attack");
    let mut product = attacked.start();
    attacked.write(&mut product);
    product.kill();
    let found = fs::read(web.join("x.log")).expect("it is there");
    assert!(found.starts_with(&[&written, SECRET].concat()), "{}", String::from_utf8_lossy(&found));
    drop(second);
}

/// As many files as a stranger likes, from one template.
#[test]
fn fields_lead_to_no_more_paths_than_are_allowed() {
    let case = Case::new("out-max-paths");
    let config = configure(&case, ", max_paths: 10");
    let lines: String = (0..500).map(|n| format!("{{\"svc\":\"{n}\",\"h\":\"-rf\",\"n\":{n}}}\n")).collect();
    case.write("logs/app.log", lines.as_bytes());
    let mut product = Product::start(&case, &config);
    product.expect("`max_paths` (10) is reached");
    product.expect("dead letter");
    wait_for("the dead letters", || {
        match metrics::sum(case.admin_port, "tailwater_output_excess_path_events_total", &[])? {
            490 => Ok(()),
            other => Err(format!("{other}; {}", product.state())),
        }
    });
    wait_for("the dead letters", || match dead_letters(&case)? {
        490 => Ok(()),
        other => Err(format!("{other}; {}", product.state())),
    });
    product.terminate();
    assert_eq!(fs::read_dir(case.path("out")).expect("it is there").count(), 10);
    // After a start, what is new comes first and takes all places.
    let lines: String =
        (500..550).chain([0]).map(|n| format!("{{\"svc\":\"{n}\",\"h\":\"-rf\",\"n\":{n}}}\n")).collect();
    append(&case.path("logs/app.log"), lines.as_bytes());
    let mut product = Product::start(&case, &config);
    product.expect("`max_paths`");
    product.expect("dead letter");
    wait_for("a line of a file that is there", || match numbers(&case.path("out/0/%2Drf/x.log")).len() {
        2 => Ok(()),
        other => Err(format!("{other}; {}", product.state())),
    });
    product.terminate();
    assert_eq!(fs::read_dir(case.path("out")).expect("it is there").count(), 20);
    assert!(case.path("out/0/%2Drf/x.log").exists());
    let mode = fs::metadata(case.path("out/0")).expect("it is there").mode();
    assert_eq!(mode & 0o027, 0, "new directories are closed to others: {mode:o}");
}

/// A link in the fixed part leads through the directories above it, and through those of its target.
#[test]
fn validate_tells_who_can_write_on_both_sides_of_a_link() {
    let case = Case::new("out-sides");
    for directory in ["named", "shared", "shared/inner"] {
        fs::create_dir(case.path(directory)).expect("a directory");
    }
    std::os::unix::fs::symlink(case.path("shared/inner"), case.path("named/link")).expect("a link");
    let config = configure(&case, "");
    let text = fs::read_to_string(&config).expect("the configuration").replace("/out/", "/named/link/");
    let config = case.write("tailwater.yaml", text.as_bytes());
    let shown = |open: &str| {
        for directory in ["named", "shared", "shared/inner"] {
            let mode = if directory == open { 0o777 } else { 0o755 };
            fs::set_permissions(case.path(directory), fs::Permissions::from_mode(mode)).expect("permissions");
        }
        crate::product::text(&crate::product::run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]).stderr)
    };
    assert!(!shown("").contains("can be written by"), "{}", shown(""));
    for open in ["named", "shared", "shared/inner"] {
        let (said, directory) = (shown(open), case.path(open));
        assert!(said.contains(&format!("{} can be written by every user", directory.display())), "{open}: {said}");
    }
}

#[test]
fn validate_and_doctor_tell_who_else_can_write_and_what_is_not_followed() {
    let case = Case::new("out-told");
    fs::create_dir(case.path("elsewhere")).expect("a directory");
    std::os::unix::fs::symlink(case.path("elsewhere"), case.path("out/linked")).expect("a link");
    fs::set_permissions(case.path("out"), fs::Permissions::from_mode(0o777)).expect("permissions");
    let config = configure(&case, "");
    let config = config.to_str().expect("UTF-8");
    let out = case.path("out").display().to_string();
    for command in ["validate", "doctor"] {
        let output = crate::product::run_to_end(&[command, "-c", config]);
        let said = crate::product::text(&output.stdout) + &crate::product::text(&output.stderr);
        assert!(said.contains(&format!("{out} can be written by every user")), "{command}: {said}");
        assert!(said.contains(&format!("{out}/linked is a symbolic link, which")), "{command}: {said}");
    }
    // The directory of the case is below one in which only owners may rename and remove, or that nobody else can write to.
    let above = case.path("").display().to_string();
    let above = above.trim_end_matches('/');
    for (modes, expected) in [
        (["0755", "0755"], None),
        (["0755", "0775"], Some(format!("{out} can be written by every member of its group"))),
        (["0755", "01777"], Some(format!("{out} can be written by every user"))),
        (["0777", "0755"], Some(format!("{above} can be written by every user"))),
        (["01777", "0755"], None),
    ] {
        run("chmod", &[modes[0], above]);
        run("chmod", &[modes[1], &out]);
        let said = crate::product::text(&crate::product::run_to_end(&["validate", "-c", config]).stderr);
        match expected {
            Some(expected) => assert!(said.contains(&expected), "{modes:?}: {said}"),
            None => assert!(!said.contains("can be written by"), "{modes:?}: {said}"),
        }
    }
    if is_root() {
        run("chmod", &["0755", above, &out]);
        give_away(&case.path("out"));
        let output = crate::product::run_to_end(&["validate", "-c", config]);
        let said = crate::product::text(&output.stderr);
        assert!(said.contains(&format!("{out} belongs to the user with the number {NOBODY}")), "{said}");
    }
}
