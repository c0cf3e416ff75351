//! SIGKILL repeatedly, at random moments.

use crate::case::Case;
use crate::lines::LineWriter;
use crate::product::Product;
use crate::wait::pause;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const KILLS: usize = 20;
/// Lines between two rotations: about half a second of the writer.
const LINES_PER_FILE: u64 = 10_000;
/// The longest time between a start and a kill.
const LATEST_KILL_MS: u64 = 450;

/// Different numbers in each run; the seed is printed, so that a failure can be reproduced.
struct Moments(u64);

impl Moments {
    fn new() -> Moments {
        let bytes = fs::File::open("/dev/urandom").and_then(|mut file| {
            let mut bytes = [0; 8];
            std::io::Read::read_exact(&mut file, &mut bytes).map(|()| bytes)
        });
        let seed = u64::from_le_bytes(bytes.expect("random bytes"));
        println!("moments of seed {seed}");
        Moments(seed | 1)
    }

    fn next_ms(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % LATEST_KILL_MS
    }
}

/// Writes and rotates until it is stopped. Returns the number of the last line.
fn write_and_rotate(case: &Case, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let (folder, stop) = (case.path("logs"), stop.clone());
    thread::spawn(move || {
        let mut last = 0;
        for number in 1.. {
            last += LINES_PER_FILE;
            writer.write_to(last);
            if stop.load(Ordering::Relaxed) {
                // One line that no earlier run can have delivered: when it arrives, everything has.
                last += 1;
                writer.write_to(last);
                break;
            }
            writer.rename(&folder.join(format!("app.log.{number}")));
            writer.reopen();
        }
        last
    })
}

#[test]
fn twenty_kills_at_random_moments_lose_and_repeat_nothing() {
    let mut case = Case::new("kills");
    case.shards = 2;
    let config = case.files_to_file("logs/app.log*");
    let stop = Arc::new(AtomicBool::new(false));
    let writing = write_and_rotate(&case, &stop);
    let mut moments = Moments::new();
    for _ in 0..KILLS {
        let product = Product::start(&case, &config);
        pause(Duration::from_millis(moments.next_ms()));
        product.kill();
    }
    let product = Product::start(&case, &config);
    stop.store(true, Ordering::Relaxed);
    let lines = writing.join().expect("the writer");
    product.finish(&case.output(), lines);
}
