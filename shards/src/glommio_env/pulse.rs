//! The heartbeat of a shard, and the watchdog that kicks a shard whose heart has stopped.
//!
//! Guarantees: a shard that parks although a task could run is found and woken within about half a second while it is active,
//! two while it is idle; a kick to a shard that is merely slow does no harm; stalls and kicks are counted.
//!
//! Does not end a shard that never comes back: what it holds is on disk, and only an operator knows how long is too long.

use super::GlommioEnv;
use super::system::{lock, monotonic};
use crate::env::Monotonic;
use crate::signal::Signal;
use glommio::timer::Timer;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

const TICK_ACTIVE: Duration = Duration::from_millis(100);
const TICK_IDLE: Duration = Duration::from_secs(1);
/// A shard that was touched this recently counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
const WATCH_ACTIVE: Duration = Duration::from_millis(500);
const WATCH_IDLE: Duration = Duration::from_secs(2);
/// Between the first kicks of one stall. One kick nearly always suffices; later ones come at the pace of an active shard.
const WATCH_STALLED: Duration = Duration::from_millis(100);
const KICKS_FAST: u32 = 10;
/// Age of a beat that is a stall. Below the watch interval, so that one interval without a beat is enough.
const STALL_ACTIVE: Duration = Duration::from_millis(450);
const STALL_IDLE: Duration = Duration::from_millis(1800);
/// Each kick through the waker holds a reference of its task until the shard runs; their count is 15 bits wide.
const KICKS_PER_STALL_MAX: u32 = 1000;

/// What the watchdog knows of one shard, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PulseReading {
    /// Ticks since the start.
    pub beats: u64,
    /// Times that the shard stopped beating.
    pub stalls: u64,
    /// Kicks that the watchdog gave.
    pub kicks: u64,
    /// Whether the shard has had nothing to do for a second.
    pub idle: bool,
    /// The shard's thread, zero before it runs.
    pub thread: i32,
}

/// The life sign of one shard, shared with the watchdog.
pub(super) struct Pulse {
    beats: AtomicU64,
    stalls: AtomicU64,
    kicks: AtomicU64,
    idle: AtomicBool,
    ended: AtomicBool,
    thread: AtomicI32,
    touched: AtomicU64,
    tick: Signal,
    kick: Signal,
    waker: Mutex<Option<Waker>>,
    bell: Arc<Bell>,
}

/// Wakes the watchdog before its interval is over.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Bell {
    /// Ends the watchdog.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Waits for a ring, at most for `timeout`, and clears it.
    fn wait(&self, timeout: Duration) {
        let waited = self.changed.wait_timeout_while(lock(&self.rung), timeout, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Pulse {
    pub(super) fn new(bell: Arc<Bell>) -> Pulse {
        Pulse {
            beats: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            touched: AtomicU64::new(monotonic().0),
            tick: Signal::new(),
            kick: Signal::new(),
            waker: Mutex::new(None),
            bell,
        }
    }

    pub(super) fn reading(&self) -> PulseReading {
        PulseReading {
            beats: self.beats.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            kicks: self.kicks.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
            thread: self.thread.load(Ordering::Relaxed),
        }
    }

    pub(super) fn touch(&self) {
        self.touched.store(monotonic().0, Ordering::Relaxed);
        if self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::AcqRel) {
            self.tick.notify();
            self.bell.ring();
        }
    }

    /// Beats until the shard ends, and tells `env` each time that the reactor has just turned.
    pub(super) async fn run_tick(&self, env: GlommioEnv) {
        while !self.ended.load(Ordering::Acquire) {
            self.beats.fetch_add(1, Ordering::Relaxed);
            let active = monotonic().since(Monotonic(self.touched.load(Ordering::Relaxed))) < ACTIVE_FOR;
            self.idle.store(!active, Ordering::Release);
            let interval = if active { TICK_ACTIVE } else { TICK_IDLE };
            futures_lite::future::or(self.tick.wait(), async {
                Timer::new(interval).await;
                env.mark_reactor_turn();
            })
            .await;
        }
    }

    /// What the watchdog kicks. Being woken is all that it does.
    pub(super) async fn run_kicked(&self) {
        poll_fn(|context| {
            *lock(&self.waker) = Some(context.waker().clone());
            Poll::Ready(())
        })
        .await;
        while !self.ended.load(Ordering::Acquire) {
            self.kick.wait().await;
        }
        // The last waker must not be dropped by another thread while the task goes.
        *lock(&self.waker) = None;
    }

    /// Names the thread that runs the shard: the calling one.
    pub(super) fn begin(&self) {
        self.thread.store(super::system::thread_number(), Ordering::Relaxed);
    }

    fn kick(&self, nth: u32) {
        self.kicks.fetch_add(1, Ordering::Relaxed);
        self.kick.notify();
        if nth > 1
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }

    /// The shard ends: housekeeping stops, and the watchdog looks away.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.tick.notify();
        self.kick.notify();
    }
}

/// What the watchdog remembers of one shard between two looks.
#[derive(Clone, Copy)]
struct Look {
    beats: u64,
    since: Monotonic,
    kicks: u32,
}

/// The watchdog's life, until [`Bell::stop`].
pub(super) fn watch(pulses: &[Arc<Pulse>], bell: &Bell) {
    let mut looks = vec![Look { beats: 0, since: monotonic(), kicks: 0 }; pulses.len()];
    while !bell.stopped.load(Ordering::Acquire) {
        let stalled = looks.iter().any(|look| (1..KICKS_FAST).contains(&look.kicks));
        let kicked = looks.iter().any(|look| look.kicks > 0);
        let idle = pulses.iter().all(|pulse| pulse.idle.load(Ordering::Acquire));
        bell.wait(if stalled {
            WATCH_STALLED
        } else if idle && !kicked {
            WATCH_IDLE
        } else {
            WATCH_ACTIVE
        });
        for (index, pulse) in pulses.iter().enumerate() {
            look_at(index, pulse, &mut looks[index]);
        }
    }
}

fn look_at(shard: usize, pulse: &Pulse, look: &mut Look) {
    let now = monotonic();
    let beats = pulse.beats.load(Ordering::Relaxed);
    if beats != look.beats || pulse.ended.load(Ordering::Acquire) {
        if look.kicks > 0 {
            let stalled_ms = now.since(look.since).as_millis() as u64;
            tracing::warn!(shard, stalled_ms, kicks = look.kicks, "shard runs again");
        }
        *look = Look { beats, since: now, kicks: 0 };
        return;
    }
    // A shard that was touched a moment ago beats as soon as it runs; until then its last beat may be an idle one.
    let touched = now.since(Monotonic(pulse.touched.load(Ordering::Relaxed)));
    let idle = pulse.idle.load(Ordering::Acquire) || touched < STALL_ACTIVE;
    let age = now.since(look.since);
    if age < if idle { STALL_IDLE } else { STALL_ACTIVE } || look.kicks >= KICKS_PER_STALL_MAX {
        return;
    }
    if look.kicks == 0 {
        pulse.stalls.fetch_add(1, Ordering::Relaxed);
        let age_ms = age.as_millis() as u64;
        tracing::warn!(shard, age_ms, "shard has not turned: starved of cpu, blocked, or parked too early; waking it");
    }
    look.kicks += 1;
    pulse.kick(look.kicks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::time::Instant;

    fn stopped_for(age: Duration, kicks: u32) -> Look {
        Look { beats: 0, since: Monotonic(monotonic().0 - age.as_nanos() as u64), kicks }
    }

    fn pulse(touched: Duration, idle: bool) -> Pulse {
        let pulse = Pulse::new(Arc::default());
        pulse.touched.store(monotonic().0 - touched.as_nanos() as u64, Ordering::Relaxed);
        pulse.idle.store(idle, Ordering::Relaxed);
        pulse
    }

    #[test]
    fn stall_is_counted_once_and_kicked_within_bounds() {
        let (pulse, mut look) = (pulse(Duration::from_secs(2), false), stopped_for(Duration::from_millis(500), 0));
        for _ in 0..KICKS_PER_STALL_MAX + 5 {
            look_at(0, &pulse, &mut look);
        }
        let reading = pulse.reading();
        assert_eq!((reading.stalls, reading.kicks), (1, u64::from(KICKS_PER_STALL_MAX)));
        pulse.beats.fetch_add(1, Ordering::Relaxed);
        look_at(0, &pulse, &mut look);
        assert_eq!((look.beats, look.kicks), (1, 0));
        look.since = stopped_for(Duration::from_secs(3), 0).since;
        look_at(0, &pulse, &mut look);
        assert_eq!(pulse.reading().stalls, 2);
    }

    #[test]
    fn idle_shard_and_one_just_touched_have_more_time() {
        for (touched, idle) in [(Duration::from_secs(5), true), (Duration::ZERO, false)] {
            let pulse = pulse(touched, idle);
            look_at(0, &pulse, &mut stopped_for(Duration::from_millis(1200), 0));
            assert_eq!(pulse.reading().stalls, 0);
            look_at(0, &pulse, &mut stopped_for(Duration::from_millis(1900), 0));
            assert_eq!(pulse.reading().stalls, 1);
        }
    }

    #[test]
    fn shard_that_ended_is_left_alone() {
        let pulse = pulse(Duration::from_secs(5), false);
        pulse.end();
        look_at(0, &pulse, &mut stopped_for(Duration::from_secs(60), 0));
        assert_eq!(pulse.reading(), PulseReading::default());
    }

    /// The executor here has no timer and no I/O: what wakes it is the kick alone.
    #[expect(clippy::disallowed_methods, reason = "it polls for a condition, with a deadline")]
    #[test]
    fn every_kick_wakes_a_parked_shard() {
        let pulse = Arc::new(pulse(Duration::ZERO, false));
        let (inside, polls) = (Arc::clone(&pulse), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&polls);
        let shard = std::thread::spawn(move || {
            let executor = glommio::LocalExecutorBuilder::default().make().expect("an executor");
            executor.run(async move {
                let mut kicked = std::pin::pin!(inside.run_kicked());
                poll_fn(|context| {
                    counted.fetch_add(1, Ordering::AcqRel);
                    kicked.as_mut().poll(context)
                })
                .await;
            });
        });
        let wait = |count| {
            let start = Instant::now();
            while polls.load(Ordering::Acquire) < count {
                assert!(start.elapsed() < Duration::from_secs(60), "the shard sleeps on");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait(1);
        for nth in 1..=50 {
            let before = polls.load(Ordering::Acquire);
            pulse.kick(nth);
            wait(before + 1);
        }
        pulse.end();
        assert!(shard.join().is_ok());
    }
}
