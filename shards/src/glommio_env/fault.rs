//! What happens when a mapped page cannot be read, because another program truncated the file or because its disk failed.
//!
//! Guarantees: the process ends with a message on standard error that names the mapped file. Nothing else runs, so the process
//! never uses bytes that it could not read. The handler uses only atomics, `write` and `abort`.
//!
//! Does not recover: after such an access, the reading code has no value to continue with.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Maximum number of named mappings. All segments of a process are far fewer. A fault in a further one is reported without a
/// name.
const RANGES_MAX: usize = 2048;
/// The end of a long path is enough to identify a segment.
const NAME_BYTES_MAX: usize = 112;
/// `start` of a free slot, and of one that is being filled. No mapping starts at either address.
const FREE: usize = 0;
const FILLING: usize = 1;

struct Range {
    start: AtomicUsize,
    length: AtomicUsize,
    name_length: AtomicUsize,
    name: [AtomicU8; NAME_BYTES_MAX],
}

static RANGES: [Range; RANGES_MAX] = [const {
    Range {
        start: AtomicUsize::new(FREE),
        length: AtomicUsize::new(0),
        name_length: AtomicUsize::new(0),
        name: [const { AtomicU8::new(0) }; NAME_BYTES_MAX],
    }
}; RANGES_MAX];

/// A named mapping. Removed from the registry when dropped.
pub(super) struct Registered {
    slot: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        RANGES[self.slot].start.store(FREE, Ordering::Release);
    }
}

/// Registers the name of the mapping at `start`. `None` if the registry is full: a fault in it is then reported without a name.
pub(super) fn register(start: usize, length: usize, name: &[u8]) -> Option<Registered> {
    for (slot, range) in RANGES.iter().enumerate() {
        let taken = range.start.compare_exchange(FREE, FILLING, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            continue;
        }
        let name = &name[name.len().saturating_sub(NAME_BYTES_MAX)..];
        for (place, byte) in range.name.iter().zip(name) {
            place.store(*byte, Ordering::Relaxed);
        }
        range.name_length.store(name.len(), Ordering::Relaxed);
        range.length.store(length, Ordering::Relaxed);
        range.start.store(start, Ordering::Release);
        return Some(Registered { slot });
    }
    None
}

/// Installs the handler for the whole process. Installing it again changes nothing.
pub fn install() -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is initialised; its handler has the signature that SA_SIGINFO asks for and is async-signal-safe.
    if unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn on_fault(_signal: libc::c_int, information: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid record to a handler installed with SA_SIGINFO; SIGBUS carries an address.
    let address = unsafe { (*information).si_addr() } as usize;
    say(b"tailwater: a mapped page cannot be read (SIGBUS): ");
    match RANGES.iter().find(|range| contains(range, address)) {
        Some(range) => {
            let mut name = [0u8; NAME_BYTES_MAX];
            for (byte, place) in name.iter_mut().zip(&range.name) {
                *byte = place.load(Ordering::Relaxed);
            }
            say(&name[..range.name_length.load(Ordering::Relaxed).min(NAME_BYTES_MAX)]);
            say(b"\nAnother program truncated the file, or its disk failed; see the kernel's log (dmesg). ");
            say(b"The next start reports which part is readable.\n");
        }
        None => say(b"no mapping of the write-ahead log\n"),
    }
    // SAFETY: async-signal-safe, takes nothing, does not return.
    unsafe { libc::abort() }
}

fn contains(range: &Range, address: usize) -> bool {
    let start = range.start.load(Ordering::Acquire);
    start > FILLING && address.wrapping_sub(start) < range.length.load(Ordering::Relaxed)
}

fn say(text: &[u8]) {
    // SAFETY: pointer and length describe `text`. A failure cannot be reported anywhere.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
