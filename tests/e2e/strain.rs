//! Causes that keep a process from running: busy threads, a quota, a stop, slow system calls.
//!
//! Guarantees: each cause ends when its value is dropped, also if a case panics.

use crate::case::Case;
use crate::product::Product;
use crate::wait::{pause, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Something that keeps a process from running until it is dropped.
pub trait Cause {
    /// Whether it has had an effect.
    fn acts(&self) -> bool;

    /// Whether more load may make the effect appear sooner. Not if more load alone looks like the cause.
    fn is_felt_by_work(&self) -> bool {
        true
    }
}

/// Threads that compute without a pause.
pub struct Burners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Where the system reports how long each thread ran and waited.
    accounts: Vec<PathBuf>,
    began: Instant,
}

impl Burners {
    /// Six of them, or three per CPU: fewer would leave the product its own CPU.
    pub fn start() -> Burners {
        let count = 6.max(3 * processors());
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let burn = |_| {
            let (stop, sender) = (stop.clone(), sender.clone());
            thread::spawn(move || {
                let account = Path::new("/proc").join(fs::read_link("/proc/thread-self").expect("a thread"));
                sender.send(account.join("schedstat")).expect("the case waits");
                while !stop.load(Ordering::Relaxed) {}
            })
        };
        let began = Instant::now();
        let threads: Vec<_> = (0..count).map(burn).collect();
        let accounts = (0..count).map(|_| receiver.recv().expect("a burner")).collect();
        Burners { stop, threads, accounts, began }
    }

    /// How long they ran or waited for a CPU, all together.
    fn wanted(&self) -> Duration {
        let texts = self.accounts.iter().map(|account| fs::read_to_string(account).expect("an account"));
        let times = |text: String| -> u64 {
            text.split_whitespace().take(2).map(|ns| ns.parse::<u64>().expect("a time")).sum()
        };
        Duration::from_nanos(texts.map(times).sum())
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Cause for Burners {
    /// They have competed for the CPUs for half of the time since they were started, whatever else runs on the machine. How long
    /// one has waited is known when it runs again.
    fn acts(&self) -> bool {
        self.wanted() * 2 >= self.began.elapsed() * self.accounts.len() as u32
    }

    fn is_felt_by_work(&self) -> bool {
        false
    }
}

/// A control group with a CPU quota: version 1 or 2, whichever has the controller.
pub struct Quota {
    group: PathBuf,
    outside: PathBuf,
}

impl Quota {
    /// Gives all threads of the product `quota` in each `period`, in microseconds.
    pub fn impose(product: &Product, quota: u64, period: u64) -> Quota {
        let first = Path::new("/sys/fs/cgroup/cpu");
        let name = format!("tailwater-test-{}", product.id());
        let is_first = first.join("cpu.cfs_quota_us").exists() || first.join("cgroup.procs").exists();
        let (outside, limits) = if is_first {
            (first.to_owned(), vec![("cpu.cfs_period_us", period.to_string()), ("cpu.cfs_quota_us", quota.to_string())])
        } else {
            let root = PathBuf::from("/sys/fs/cgroup");
            // This fails if it is already enabled, or if processes prevent it: then setting the limit fails and reports it.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
            (root, vec![("cpu.max", format!("{quota} {period}"))])
        };
        let group = outside.join(name);
        fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        let imposed = Quota { group, outside };
        for (file, value) in limits {
            let path = imposed.group.join(file);
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        fs::write(imposed.group.join("cgroup.procs"), product.id().to_string()).expect("the product in the group");
        imposed
    }
}

impl Cause for Quota {
    fn acts(&self) -> bool {
        let statistics = fs::read_to_string(self.group.join("cpu.stat")).unwrap_or_default();
        let throttled = statistics.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        throttled.is_some_and(|times| times != "0")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines() {
            let _ = fs::write(self.outside.join("cgroup.procs"), member);
        }
        // A process that has just ended may hold it for a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.group).is_ok() || !self.group.exists() {
                return;
            }
            pause(Duration::from_millis(20));
        }
        eprintln!("{} is left behind", self.group.display());
    }
}

/// The product is stopped.
pub struct Stopped(u32);

impl Stopped {
    pub fn stop(product: &Product) -> Stopped {
        product.signal("STOP");
        Stopped(product.id())
    }
}

impl Cause for Stopped {
    fn acts(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        state.contains(") T ")
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0.to_string()]).status();
    }
}

/// A tracer that slows down system calls of the product.
pub struct SlowCalls {
    tracer: Child,
    product: u32,
    call: &'static str,
    /// The tracer's output for each call.
    trace: PathBuf,
}

/// Minimum number of slowed calls before a tracer counts as effective.
const SLOW_CALLS_MIN: usize = 5;

impl SlowCalls {
    /// Slows down `call`; `how` is what strace injects.
    pub fn attach(case: &Case, product: &Product, call: &'static str, how: &str) -> SlowCalls {
        let trace = case.path("trace");
        let mut command = Command::new("strace");
        let (only, inject) = (format!("trace={call}"), format!("inject={call}:{how}"));
        command.args(["-f", "-e", &only, "-e", &inject, "-p", &product.id().to_string(), "-o"]).arg(&trace);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
        let attached = SlowCalls { tracer: child, product: product.id(), call, trace };
        wait_for("the tracer", || if attached.is_attached() { Ok(()) } else { Err("not attached".to_owned()) });
        attached
    }

    fn is_attached(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.product)).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() == self.tracer.id().to_string())
    }
}

impl Cause for SlowCalls {
    fn acts(&self) -> bool {
        let trace = fs::read_to_string(&self.trace).unwrap_or_default();
        let slow = trace.lines().filter(|line| line.contains(self.call) && line.ends_with("(DELAYED)"));
        self.is_attached() && slow.count() >= SLOW_CALLS_MIN
    }
}

impl Drop for SlowCalls {
    fn drop(&mut self) {
        // It detaches from the product, for which a forced kill would leave no time.
        let _ = Command::new("kill").args(["-TERM", &self.tracer.id().to_string()]).status();
        let _ = self.tracer.wait();
    }
}

/// A thread that wants to run every few milliseconds: its delay shows how much the machine itself is delayed.
pub struct Control {
    stop: Arc<AtomicBool>,
    latest_micros: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub fn start() -> Control {
        const STEP: Duration = Duration::from_millis(5);
        let (stop, latest_micros) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, latest) = (stop.clone(), latest_micros.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                pause(STEP);
                let late = began.elapsed().saturating_sub(STEP);
                latest.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
            }
        });
        Control { stop, latest_micros, thread: Some(thread) }
    }

    /// Ends it and returns its greatest delay.
    pub fn latest(mut self) -> Duration {
        self.end();
        Duration::from_micros(self.latest_micros.load(Ordering::Relaxed))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}
