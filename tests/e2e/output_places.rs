//! An ordinary user makes a place in his directory that takes no files, with errors that a broken or full disk has as well.
//!
//! Guarantees that are checked: the files of everybody else get each line exactly once, also over a restart; only the events for that
//! place become dead letters, and when it can be used again, it is. A disk that is full for all is still waited for.

use crate::case::Case;
use crate::disks::{LoopDisk, Mount, fill, may_administrate, not_checked};
use crate::output_holders::concerns_only_its_events;
use crate::output_strangers::{Attacked, does, numbers};
use crate::product::{Product, binary};
use crate::running::append;
use crate::wait::{pause, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Perl: encrypts the empty directory `web` with a key of this user (fscrypt), and takes the key away. The numbers are those of
/// `FS_IOC_ADD_ENCRYPTION_KEY`, `FS_IOC_SET_ENCRYPTION_POLICY` and `FS_IOC_REMOVE_ENCRYPTION_KEY`.
const ENCRYPT: &str = "
    sysopen(my $d, 'web', 0) or die $!;
    my $key = pack('L L a32 L L a32', 2, 0, '', 64, 0, '') . (chr(7) x 64);
    unless (ioctl($d, 0xc0506617, $key)) { mkdir 'unsupported'; exit 0 }
    my $id = substr($key, 8, 16);
    my $policy = pack('C C C C C a3 a16', 2, 1, 4, 3, 0, '', $id);
    ioctl($d, 0x800c6613, $policy) or die $!;
    close $d;
    sysopen(my $above, '.', 0) or die $!;
    my $away = pack('L L a32 L a20', 2, 0, $id, 0, '');
    ioctl($above, 0xc0406618, $away) or die $!;
    die 'the key is still there' if open(my $f, '>', 'web/x.log');
";

/// Perl: links with names of which four fill a block, until there is no place for `x.log`. A file has 65,000 names at most, and how many are
/// needed depends on the secret of the directory's hash.
const FILL_INDEX: &str = "
    my ($n, $first) = (0, sprintf('web/%0244d', 0));
    open(my $f, '>', $first) or die $!;
    close $f;
    while (1) {
        for (1 .. 500) {
            my $name = sprintf('web/%0244d', ++$n);
            link($first, $name) or (open(my $next, '>', $name) and $first = $name);
        }
        last unless open(my $x, '>', 'web/x.log');
        close $x;
        unlink 'web/x.log' or die $!;
        die 'it is too large' if $n > 200_000;
    }
    $! =~ /No space/ or die $!;
";

/// What a user does, on a file system that was made like this, and what the output says then.
struct Attack {
    options: &'static [&'static str],
    program: &'static str,
    said: &'static str,
}

const ATTACKS: [Attack; 2] = [
    Attack { options: &["-O", "encrypt"], program: ENCRYPT, said: "Required key not available" },
    Attack { options: &["-b", "1024"], program: FILL_INDEX, said: "No space left on device" },
];

fn start(attacked: &Attacked) -> Product {
    let mut product = attacked.start_with(&mut Command::new(binary()));
    for part in ["cannot open", "cannot rotate", "become dead letters", "similar lines"] {
        product.expect(part);
    }
    product
}

/// The user's file gets lines again.
fn recovers(attacked: &mut Attacked, product: &mut Product, file: &Path) {
    wait_for("the next line", || {
        attacked.write(product);
        if numbers(file).is_empty() { Err(product.state()) } else { Ok(()) }
    });
}

#[test]
fn place_that_takes_no_files_concerns_only_its_events() {
    if !may_administrate("places of users that take no files") {
        return;
    }
    for Attack { options, program, said } in ATTACKS {
        let case = Case::new("out-places");
        let disk = LoopDisk::with(&case, ("image", "out"), 256, options);
        let mut attacked = Attacked::on(case, "");
        // It is dropped first, and with it the mount.
        let _disk = disk;
        let tenant = attacked.path("out/tenant");
        does(&tenant, program);
        if tenant.join("unsupported").exists() {
            not_checked(said, "this kernel does not encrypt directories");
            continue;
        }
        let mut product = start(&attacked);
        concerns_only_its_events(&mut attacked, &mut product, said, 0);
        product.kill();
        let mut product = start(&attacked);
        concerns_only_its_events(&mut attacked, &mut product, said, 0);
        does(&tenant, "system('rm -rf web && mkdir web') == 0 or die");
        recovers(&mut attacked, &mut product, &tenant.join("web/x.log"));
        product.terminate();
    }
}

#[test]
fn full_disk_is_waited_for_and_makes_no_dead_letters() {
    if !may_administrate("a full disk with directories of users") {
        return;
    }
    let case = Case::new("out-full");
    let disk = LoopDisk::with(&case, ("image", "out"), 128, &[]);
    let mut attacked = Attacked::on(case, "");
    let _disk = disk;
    let mut product = start(&attacked);
    product.expect("cannot write");
    attacked.write(&mut product);
    let filler = fill(&attacked.path("out"), 0);
    let lines: String = (1..=2000).map(|n| format!("{{\"svc\":\"tenant\",\"h\":\"web\",\"n\":{n}}}\n")).collect();
    append(&attacked.path("logs/app.log"), lines.as_bytes());
    product.wait_for_log(&["No space left on device"]);
    // Longer than an output waits for a file of one user.
    pause(Duration::from_secs(12));
    std::fs::remove_file(filler).expect("it is there");
    let file = attacked.path("out/tenant/web/x.log");
    wait_for("the lines", || match numbers(&file).len() {
        2001 => Ok(()),
        found => Err(format!("{found} lines; {}", product.state())),
    });
    assert!(!product.log().contains("dead letter"), "{}", product.state());
    product.terminate();
}

/// A user mounts something over a file of his own, as `fusermount` does it: here root, in his name.
#[test]
fn mount_point_in_the_way_of_a_rotation_concerns_only_its_events() {
    if !may_administrate("a mount point among rotated files") {
        return;
    }
    let mut attacked = Attacked::on(Case::new("out-mount-point"), ", rotate: {bytes: 16KiB, keep: 2}");
    let web = attacked.path("out/tenant/web");
    does(&web, "for my $n ('', '.1', '.2') { open(my $f, '>', \"x.log$n\") or die $!; print $f \"mine\\n\" x 5000 }");
    let mounted = Mount::file(&attacked.path("victim/secret"), web.join("x.log.1"));
    let mut product = start(&attacked);
    concerns_only_its_events(&mut attacked, &mut product, "Device or resource busy", 0);
    drop(mounted);
    recovers(&mut attacked, &mut product, &web.join("x.log"));
    attacked.check(&mut product);
    product.terminate();
}
