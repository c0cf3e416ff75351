//! The product gets no CPU time: nothing is lost or repeated, and no stall outlives its cause by more than two seconds.
//!
//! A stall is measured from the end of its cause until everything that was written before that end is delivered, and a new
//! line in another file too. A control thread measures the delay of the machine itself, which is subtracted. Each cause is
//! measured three times, and two of the three must be within the limit.

use crate::case::Case;
use crate::disks::may_administrate;
use crate::lines::{LineCount, arrived, block};
use crate::product::Product;
use crate::strain::{Burners, Cause, Control, Quota, SlowCalls, Stopped};
use crate::wait::{DEADLINE, pause, wait_for};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Lines that are written per second, and the maximum if a cause needs more load to have an effect: a quota does not affect a
/// process that needs less.
const PACE: u64 = 5_000;
const PACE_MAX: u64 = 320_000;
/// How long a cause lasts.
const CAUSE: Duration = Duration::from_secs(3);
/// How long a stall may outlive its cause.
const BOUND: Duration = Duration::from_secs(2);
const MEASUREMENTS: usize = 3;
/// Number of measurements that may exceed the limit: other tenants may delay the machine unnoticed by the control thread.
const BEYOND_MAX: usize = 1;

/// A running product with incoming lines, alone on the machine as far as these tests are concerned.
struct Strained {
    product: Product,
    case: Case,
    log: File,
    count: LineCount,
    last: u64,
}

impl Strained {
    fn start(name: &str) -> Strained {
        let mut case = Case::alone(name);
        case.shards = 2;
        let config: PathBuf = case.files_to_file("logs/*.log");
        let log = File::create(case.path("logs/app.log")).expect("the log");
        let mut product = Product::start(&case, &config);
        // A warning of the watchdog is correct here.
        product.expect("kick");
        product.expect("stall");
        let count = LineCount::of(case.output());
        let mut strained = Strained { product, case, log, count, last: 0 };
        strained.write(Duration::from_millis(300), PACE);
        strained.count.wait(strained.last, &mut strained.product);
        strained
    }

    /// Writes lines at the pace for about this long.
    fn write(&mut self, duration: Duration, pace: u64) {
        let (began, first) = (Instant::now(), self.last);
        while began.elapsed() < duration {
            pause(Duration::from_millis(5));
            let due = first + began.elapsed().as_millis() as u64 * pace / 1000;
            self.log.write_all(&block(self.last + 1, due)).expect("lines");
            self.last = due;
        }
    }

    /// Applies `cause` while lines are written, ends it, and measures how long delivery stays behind, and how late the
    /// control thread was meanwhile.
    fn stall<C: Cause>(&mut self, cause: impl FnOnce(&Case, &Product) -> C) -> (Duration, Duration) {
        let acting = cause(&self.case, &self.product);
        let (mut pace, began) = (PACE, Instant::now());
        self.write(CAUSE, pace);
        while !acting.acts() {
            assert!(began.elapsed() < DEADLINE && pace < PACE_MAX, "the cause did nothing");
            pace *= if acting.is_felt_by_work() { 4 } else { 1 };
            self.write(CAUSE, pace);
        }
        drop(acting);
        let (ended, control) = (Instant::now(), Control::start());
        self.last += 1;
        fs::write(self.case.path(&format!("logs/fresh-{}.log", self.last)), block(self.last, self.last))
            .expect("a line");
        let (last, count, product) = (self.last, &mut self.count, &mut self.product);
        wait_for("delivery that has caught up", || match count.now() {
            now if now >= last => Ok(()),
            now => Err(format!("{now} of {last}; {}", product.state())),
        });
        (ended.elapsed(), control.latest())
    }

    /// Stalls of this cause are within the limit, except for one.
    fn assert_no_long_stall<C: Cause>(&mut self, name: &str, cause: impl Fn(&Case, &Product) -> C) {
        let seen: Vec<(Duration, Duration)> = (0..MEASUREMENTS).map(|_| self.stall(&cause)).collect();
        let said = format!("{name}: delivery caught up after (and how late the control thread was): {seen:?}");
        println!("{said}");
        let beyond = seen.iter().filter(|(stall, late)| *stall > BOUND + *late * 2);
        assert!(beyond.count() <= BEYOND_MAX, "{said}");
    }

    fn end(self) {
        let Strained { product, case, last, .. } = self;
        product.terminate();
        arrived(&case.output(), last).assert_exactly_once();
    }
}

#[test]
fn busy_threads_do_not_stall_it_for_long() {
    let mut strained = Strained::start("burners");
    strained.assert_no_long_stall("six burners", |_, _| Burners::start());
    strained.end();
}

#[test]
fn cpu_quota_of_a_twentieth_does_not_stall_it_for_long() {
    if !may_administrate("a quota of the processor") {
        return;
    }
    let mut strained = Strained::start("quota");
    strained.assert_no_long_stall("a quota of 10 of 200 ms", |_, product| Quota::impose(product, 10_000, 200_000));
    strained.end();
}

#[test]
fn stop_and_continue_does_not_stall_it_for_long() {
    let mut strained = Strained::start("stopped");
    strained.assert_no_long_stall("SIGSTOP", |_, product| Stopped::stop(product));
    strained.end();
}

#[test]
fn slow_io_uring_calls_do_not_stall_it_for_long() {
    if !may_administrate("slow calls of the ring") {
        return;
    }
    let mut strained = Strained::start("slow-ring");
    strained.assert_no_long_stall("io_uring_enter slower by 50 ms", |case, product| {
        SlowCalls::attach(case, product, "io_uring_enter", "delay_enter=50000")
    });
    strained.assert_no_long_stall("answers of io_uring_enter later by 50 ms", |case, product| {
        SlowCalls::attach(case, product, "io_uring_enter", "delay_exit=50000")
    });
    strained.end();
}
