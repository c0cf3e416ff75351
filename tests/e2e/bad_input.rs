//! Inputs that fail: a clear line in the log, and everything else arrives.

use crate::case::Case;
use crate::lines::{LineCount, LineWriter, arrived, block};
use crate::metrics;
use crate::product::{Product, give_away, unprivileged};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn unreadable_file_is_named_and_read_once_it_can_be() {
    let case = Case::new("unreadable");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/good.log", &block(1, 1_000));
    let secret = case.write("logs/secret.log", &block(1_001, 2_000));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("permissions");
    for folder in ["data", "out", "logs"] {
        give_away(&case.path(folder));
    }
    let mut product = Product::start_with(&case, unprivileged(&case).arg("run").arg("-c").arg(&config));
    product.expect("secret.log");
    let mut count = LineCount::of(case.output());
    count.wait(1_000, &mut product);
    product.wait_for_log(&["secret.log", "permission denied"]);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("permissions");
    product.finish(&case.output(), 2_000);
}

#[test]
fn names_that_lead_nowhere_do_not_stop_the_others() {
    let case = Case::new("nowhere");
    let include = case.path("logs/*.log").display().to_string();
    let input = format!("{{type: file, include: [\"{include}\"], follow_links: true}}");
    let config = case.configure(&input, &case.json_output());
    symlink(case.path("logs/absent"), case.path("logs/dangling.log")).expect("a link");
    symlink(case.path("logs/loop.log"), case.path("logs/loop.log")).expect("a link");
    fs::create_dir(case.path("logs/folder.log")).expect("a folder");
    case.write("logs/good.log", &block(1, 1_000));
    let mut product = Product::start(&case, &config);
    for name in ["dangling.log", "loop.log", "folder.log"] {
        product.expect(name);
    }
    let mut count = LineCount::of(case.output());
    count.wait(1_000, &mut product);
    // The link has a target now.
    case.write("logs/absent", &block(1_001, 2_000));
    product.finish(&case.output(), 2_000);
}

#[test]
fn directory_that_appears_later_is_followed() {
    let case = Case::new("later");
    let config = case.files_to_file("logs/later/*/app.log");
    let mut product = Product::start(&case, &config);
    product.expect("later");
    metrics::wait_for_ready(case.admin_port);
    fs::create_dir_all(case.path("logs/later/one")).expect("folders");
    let mut writer = LineWriter::create(case.path("logs/later/one/app.log"));
    writer.write_to(5_000);
    let mut count = LineCount::of(case.output());
    count.wait(5_000, &mut product);
    // It is removed, and created again under the same name.
    writer.delete();
    fs::remove_dir_all(case.path("logs/later")).expect("a removal");
    fs::create_dir_all(case.path("logs/later/two")).expect("folders");
    LineWriter::create(case.path("logs/later/two/app.log")).starting_at(5_001).write_to(10_000);
    product.finish(&case.output(), 10_000);
}

#[test]
fn binary_garbage_does_not_harm_its_neighbours() {
    let case = Case::new("garbage");
    // The newlines are counted below.
    let input = format!("{{type: file, include: [\"{}\"], skip_empty: false}}", case.path("logs/*.log").display());
    let config = case.configure(&input, &case.json_output());
    let mut bytes = block(1, 1_000);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push((state >> 56) as u8);
    }
    bytes.push(b'\n');
    bytes.extend(block(1_001, 2_000));
    // A file of zeros, as a crash leaves it, then lines.
    bytes.extend(std::iter::repeat_n(0u8, 100_000));
    bytes.push(b'\n');
    bytes.extend(block(2_001, 3_000));
    case.write("logs/app.log", &bytes);
    case.write("logs/neighbour.log", &block(3_001, 4_000));
    let mut product = Product::start(&case, &config);
    product.expect("UTF-8");
    product.expect("utf-8");
    let newlines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
    LineCount::of(case.output()).wait(newlines + 1_000, &mut product);
    product.terminate();
    let seen = arrived(&case.output(), 4_000);
    seen.assert_none_lost_none_repeated();
    assert!(seen.others.iter().all(|event| event["message"].is_string()), "garbage stays text");
}

#[test]
fn line_of_fifty_megabytes_is_truncated_and_its_neighbours_arrive() {
    let case = Case::new("huge");
    let config = case.files_to_file("logs/*.log");
    let mut bytes = block(1, 1_000);
    bytes.extend(std::iter::repeat_n(b'x', 50_000_000));
    bytes.push(b'\n');
    bytes.extend(block(1_001, 2_000));
    case.write("logs/app.log", &bytes);
    case.write("logs/neighbour.log", &block(2_001, 3_000));
    let mut product = Product::start(&case, &config);
    product.expect("app.log");
    LineCount::of(case.output()).wait(3_001, &mut product);
    let peak_kib = peak_memory_kib(product.id());
    product.terminate();
    let seen = arrived(&case.output(), 3_000);
    seen.assert_none_lost_none_repeated();
    assert_eq!(seen.others.len(), 1, "the long line arrives once");
    let message = seen.others[0]["message"].as_str().expect("a message");
    assert!(message.len() <= 256 << 10 && message.len() > 200 << 10, "cut to {} bytes", message.len());
    assert!(message.bytes().all(|byte| byte == b'x'));
    assert!(peak_kib < 400 << 10, "peak memory {peak_kib} KiB: the line was kept whole");
}

fn peak_memory_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
