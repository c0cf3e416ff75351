//! The program whose log the demo follows: writes JSON lines at a steady rate, and rotates the log by size.

use super::pause;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Lines written every [`WRITE_INTERVAL`].
const LINES_AT_ONCE: u64 = 100;
/// How often lines are written.
pub const WRITE_INTERVAL: Duration = Duration::from_millis(50);
/// Lines after which the log is rotated: every ten seconds.
const ROTATE_LINES: u64 = 20_000;
/// Rotated logs that are kept.
const ROTATED_KEPT: u32 = 3;

const LEVELS: [&str; 6] = ["info", "info", "info", "debug", "warn", "error"];

/// Writes the log and rotates it, as an application with size-based rotation does.
pub struct Writer {
    /// The log.
    pub path: PathBuf,
    /// The number of lines so far.
    pub written: Arc<AtomicU64>,
    /// Whether it should stop.
    pub asked: Arc<AtomicBool>,
}

impl Writer {
    /// Writes until it is asked to stop.
    pub fn run(self) -> std::io::Result<()> {
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        let mut number = 0;
        let mut lines = String::new();
        while !self.asked.load(Ordering::Acquire) {
            lines.clear();
            for _ in 0..LINES_AT_ONCE {
                number += 1;
                lines.push_str(&line(number));
                lines.push('\n');
            }
            file.write_all(lines.as_bytes())?;
            self.written.store(number, Ordering::Release);
            if number % ROTATE_LINES == 0 {
                file = self.rotate()?;
            }
            pause(WRITE_INTERVAL);
        }
        Ok(())
    }

    fn rotate(&self) -> std::io::Result<File> {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..ROTATED_KEPT).rev() {
            if numbered(number).exists() {
                fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        fs::rename(&self.path, numbered(1))?;
        File::options().create(true).append(true).open(&self.path)
    }
}

/// The line with a number; everything in it is derived from the number.
pub fn line(number: u64) -> String {
    let level = LEVELS[(number % 6) as usize];
    let path = ["/cart", "/checkout", "/items", "/login"][(number % 4) as usize];
    let status = [200, 200, 200, 201, 404, 500][(number * 7 % 6) as usize];
    let (millis, session) = (number * 37 % 900, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    format!(
        "{{\"n\":{number},\"level\":\"{level}\",\"msg\":\"GET {path}\",\"status\":{status},\"took_ms\":{millis},\
         \"session\":\"{session:016x}\"}}"
    )
}

/// Whether the demo's pipeline keeps the line of this number.
pub fn is_kept(number: u64) -> bool {
    LEVELS[(number % 6) as usize] != "debug"
}
