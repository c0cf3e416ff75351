//! An ordinary user holds, runs, fills or closes his own file in a directory of an output, or locks a file that he may only read.
//!
//! Guarantees that are checked: the files of everybody else get each line exactly once, also over a restart; only the events of
//! that file become dead letters, and the log, a gauge and the dead letters say so; when it can be used again, it is.

use crate::disks::{Mount, may_administrate, not_checked};
use crate::metrics;
use crate::output_strangers::{Attacked, Keeps, dead_letters, does, may_attack, numbers};
use crate::product::{NOBODY, Product, binary};
use crate::wait::wait_for;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Perl: locks the open file `$f` with `fcntl`, for writing (1) or reading (0); 6 is F_SETLK, 7 F_SETLKW, 37 F_OFD_SETLK.
fn lock(command: u32, kind: u32) -> String {
    format!("my $lock = pack('s s x4 q q l x4', {kind}, 0, 0, 0, 0); fcntl($f, {command}, $lock) or die $!;")
}

/// A process of this user that holds a file for writing, until this is dropped.
pub struct Holder(Child);

impl Holder {
    /// Waits until the file is free.
    pub fn of(path: &Path) -> Holder {
        let program = format!(
            "open(my $f, '+<', $ARGV[0]) or die $!; {} $| = 1; print \"ready\\n\"; sleep 1 while 1",
            lock(7, 1)
        );
        let mut command = Command::new("perl");
        command.args(["-e", &program]).arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("perl is there");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("it says that it is ready");
        assert_eq!(line, "ready\n");
        Holder(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the stranger does in his directory, and undoes.
struct Attack {
    said: &'static str,
    begin: String,
    undo: &'static str,
}

/// Perl: in the directory `out/tenant`, after which the attack lasts as long as the process.
fn attacks() -> Vec<Attack> {
    let own = "unlink 'web/x.log'; open(my $f, '+>', 'web/x.log') or die $!; chmod 0666, 'web/x.log' or die $!;";
    let attack = |said, begin: String, undo| Attack { said, begin, undo };
    vec![
        attack("has it open for writing", format!("{own} {}", lock(37, 1)), ""),
        attack("has it open for writing", format!("{own} {}", lock(6, 1)), ""),
        // F_SETLEASE is 1024. The kernel ends a lease after 45 seconds.
        attack("through a lease", format!("$SIG{{IO}} = 'IGNORE'; {own} fcntl($f, 1024, 1) or die $!;"), ""),
        attack(
            "Text file busy",
            "unlink 'web/x.log'; system('cp /bin/sleep web/x.log && chmod 777 web/x.log') == 0 or die; my $pid = fork; \
             exec('web/x.log', '1000') unless $pid; sleep 1; readlink(\"/proc/$pid/exe\") =~ /x.log/ or die; \
             open(my $p, '>', 'pid') or die $!; print $p $pid; close $p;"
                .to_owned(),
            "open(my $p, '<', 'pid') or die $!; kill 9, <$p>",
        ),
        attack("Permission denied", format!("{own} chmod 0000, 'web/x.log' or die $!;"), ""),
        attack("Permission denied", "unlink 'web/x.log'; chmod 0000, 'web' or die $!;".to_owned(), "chmod 0777, 'web'"),
        // The largest file that this file system can have.
        attack(
            "File too large",
            format!("{own} my $size = 0; for my $n (reverse 0 .. 62) {{ $size += 1 << $n if truncate($f, $size + (1 << $n)) }}"),
            "",
        ),
    ]
}

/// A collector of root that may not read and write what it likes, as the unit runs it.
fn start(attacked: &Attacked) -> Product {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search,-fowner", "--"]).arg(binary());
    let mut product = attacked.start_with(&mut command);
    for part in ["cannot open", "cannot write", "become dead letters", "it is not changed", "similar lines"] {
        product.expect(part);
    }
    product
}

fn holds(attacked: &Attacked, program: &str) -> Keeps {
    let ready = attacked.path("out/tenant/ready");
    let _ = std::fs::remove_file(&ready);
    let stay = "open(my $r, '>', 'ready') or die $!; sleep 1 while 1;";
    let keeps = Keeps::doing(&attacked.path("out/tenant"), &format!("{program} {stay}"));
    wait_for("the attack", || ready.exists().then_some(()).ok_or_else(|| program.to_owned()));
    keeps
}

/// The other tenant gets his line, and the event for the stranger's file is a dead letter, of which there were `before`.
pub fn concerns_only_its_events(attacked: &mut Attacked, product: &mut Product, said: &str, before: u64) {
    attacked.write(product);
    wait_for("dead letters", || match dead_letters(&attacked.case)? {
        now if now > before => Ok(()),
        _ => Err(format!("{said}: {}", product.state())),
    });
    wait_for("the gauge", || match metrics::sum(attacked.case.admin_port, "tailwater_output_unusable_files", &[])? {
        1 => Ok(()),
        other => Err(format!("{other}; {said}: {}", product.state())),
    });
    assert!(product.log().contains(said), "{said}: {}", product.state());
}

#[test]
fn what_a_user_does_to_his_file_concerns_only_its_events() {
    if !may_attack("locks and permissions of files of an output") {
        return;
    }
    let mut attacked = Attacked::new("out-alone");
    let tenant = attacked.path("out/tenant");
    does(&tenant, "chmod 0777, 'web' or die $!");
    let mut product = start(&attacked);
    attacked.write(&mut product);
    for (number, Attack { said, begin, undo }) in attacks().into_iter().enumerate() {
        let before = dead_letters(&attacked.case).expect("the metrics");
        let keeps = holds(&attacked, &begin);
        concerns_only_its_events(&mut attacked, &mut product, said, before);
        if number % 2 == 0 {
            product.kill();
            product = start(&attacked);
            attacked.write(&mut product);
        }
        drop(keeps);
        does(&tenant, &format!("{undo}; unlink 'web/x.log'"));
        wait_for("the next line", || {
            attacked.write(&mut product);
            let found = numbers(&tenant.join("web/x.log"));
            if found.is_empty() { Err(format!("{said}: {}", product.state())) } else { Ok(()) }
        });
    }
    product.terminate();
}

/// A user mounts a file system of his own over his directory, with `fusermount`: not even root may look into it. Here root mounts it in
/// his name, and no program serves it.
#[test]
fn file_system_that_a_user_mounted_concerns_only_its_events() {
    if !may_administrate("a file system that a user mounted") {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        return not_checked("a file system that a user mounted", "this kernel has no FUSE");
    }
    let mut attacked = Attacked::new("out-fuse");
    let web = attacked.path("out/tenant/web");
    for before in 0..2 {
        let mounted = Mount::of_user(web.clone(), NOBODY);
        let mut product = attacked.start_with(&mut Command::new(binary()));
        for part in ["cannot open", "become dead letters", "it is not changed", "similar lines"] {
            product.expect(part);
        }
        concerns_only_its_events(&mut attacked, &mut product, "Permission denied", 0);
        drop(mounted);
        attacked.write(&mut product);
        wait_for("the file", || match numbers(&web.join("x.log")).len() {
            found if found > before => Ok(()),
            _ => Err(product.state()),
        });
        product.kill();
    }
}

/// A file system of a user's own is full, or a quota that some file systems report in the same words.
#[test]
fn full_disk_of_one_user_concerns_only_its_events() {
    if !may_administrate("a full disk of one user") {
        return;
    }
    let mut attacked = Attacked::new("out-full");
    let web = attacked.path("out/tenant/web");
    let _mounted = Mount::memory(web.clone(), "64k");
    std::os::unix::fs::chown(&web, Some(NOBODY), None).expect("a new owner");
    // As much as fits.
    std::fs::write(web.join("full"), vec![0; 1 << 20]).expect_err("it is full");
    let mut product = attacked.start_with(&mut Command::new(binary()));
    for part in ["cannot write", "become dead letters", "similar lines"] {
        product.expect(part);
    }
    concerns_only_its_events(&mut attacked, &mut product, "No space left on device", 0);
    std::fs::remove_file(web.join("full")).expect("it is there");
    wait_for("the next line", || {
        attacked.write(&mut product);
        let found = numbers(&web.join("x.log"));
        if found.is_empty() { Err(product.state()) } else { Ok(()) }
    });
    product.terminate();
}

/// Whoever may read a file can lock it for reading, and with `flock` for writing as well.
#[test]
fn locks_of_those_who_may_only_read_keep_nobody_from_writing() {
    if !may_attack("locks of readers on files of an output") {
        return;
    }
    let mut attacked = Attacked::new("out-readers");
    let file = attacked.path("out/tenant/web/x.log");
    std::fs::write(&file, "").expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    let program = format!("open(my $f, '<', 'web/x.log') or die $!; flock($f, 2) or die $!; {}", lock(37, 0));
    let keeps = holds(&attacked, &program);
    let mut product = start(&attacked);
    product.expect("is written without a lock");
    attacked.write(&mut product);
    wait_for("the line", || match numbers(&file).len() {
        1 => Ok(()),
        _ => Err(product.state()),
    });
    product.wait_for_log(&["x.log is written without a lock", "has locked it for reading"]);
    product.terminate();
    drop(keeps);
}
