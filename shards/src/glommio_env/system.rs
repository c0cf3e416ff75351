//! Clocks, random bits and process settings on which shards rely.
//!
//! Guarantees: the monotonic clock has one origin for all shards. Limits are only ever raised, up to their hard limits; but for that of
//! core files.
//!
//! Keeps no state.

use crate::env::{Monotonic, Timestamp};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Process-wide settings on which the executors rely. Calling it again does no harm.
pub(super) fn prepare_process() {
    const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    // SAFETY: takes two numbers and touches no memory. A refusal only makes the first park slower.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0) };
    raise(libc::RLIMIT_MEMLOCK);
}

/// Raises the limit of open files as far as this process may. Must be called before the WAL is opened, because all its segments
/// are open files.
pub fn raise_open_files() {
    raise(libc::RLIMIT_NOFILE);
}

/// Raises the soft limit to the hard one. If the system refuses, the limit stays unchanged.
fn raise(resource: libc::__rlimit_resource_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the kernel to write and to read.
    unsafe {
        if libc::getrlimit(resource, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(resource, &limit);
        }
    }
}

/// Keeps the memory of this process from others without the rights of root: the kernel writes no core file of it, and other processes of
/// the same user can neither read nor trace it. What the process reads of itself below `/proc/self` stays readable for itself, except
/// files that only their owner may open, such as `environ`. Threads that exist already are included.
pub fn keep_memory_private() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid place for the kernel to read; `prctl` takes numbers here.
    let outcomes =
        unsafe { [libc::setrlimit(libc::RLIMIT_CORE, &none), libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)] };
    if outcomes == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The numbers of the user and the group whose rights this process has.
pub fn user_and_group() -> (u32, u32) {
    // SAFETY: both take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

pub(super) fn thread_number() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

pub(super) fn monotonic() -> Monotonic {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write; this clock exists on every kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Monotonic(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub(super) fn wall() -> Timestamp {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()),
        Err(before) => i64::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
    };
    Timestamp(nanos.unwrap_or(i64::MAX))
}

/// Eight random bytes from the kernel.
pub(super) fn seed() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and the length describe `bytes`. Requests this small are never cut short.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize { Ok(u64::from_ne_bytes(bytes)) } else { Err(io::Error::last_os_error()) }
}
