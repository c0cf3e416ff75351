//! Mapped files, and control over their pages.
//!
//! Guarantees: reads stay inside the mapping, which is registered by name with the fault handler. Loaded pages stay in memory
//! until the system needs the space. Does not lock pages in memory, and does not detect that a file was truncated: the handler
//! does.

use super::fault;
use crate::env::Map;
use std::borrow::Cow;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// A read-only shared mapping, registered with the fault handler by name.
pub struct RealMap {
    // Removed from the registry before the mapping is removed.
    _registered: Option<fault::Registered>,
    mapping: memmap2::MmapRaw,
}

impl RealMap {
    pub(super) fn new(file: &fs::File, length: u64) -> io::Result<RealMap> {
        let mapped = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        if file.metadata()?.len() < length {
            let what = "a mapping must not extend beyond the end of its file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mapping = memmap2::MmapOptions::new().len(mapped).map_raw_read_only(file)?;
        let start = mapping.as_ptr() as usize;
        let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        Ok(RealMap { _registered: fault::register(start, mapped, name.as_os_str().as_bytes()), mapping })
    }
}

fn page_bytes() -> usize {
    // SAFETY: takes a number, reads a constant of the system.
    (unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) as usize
}

impl RealMap {
    /// The pages of a range, as far as they are inside the view.
    fn whole_pages(&self, offset: usize, length: usize) -> Range<usize> {
        let end = offset.saturating_add(length).min(self.mapping.len());
        let start = offset.min(end);
        start - start % page_bytes()..end
    }

    /// Reads a byte of each page.
    fn touch(&self, range: Range<usize>) {
        for at in range.step_by(page_bytes()) {
            // SAFETY: the byte lies inside the mapping. Others may write to it: its value means nothing.
            unsafe { self.mapping.as_ptr().add(at).read_volatile() };
        }
    }
}

impl Map for RealMap {
    fn length(&self) -> usize {
        self.mapping.len()
    }

    fn bytes(&self, offset: usize, length: usize) -> Cow<'_, [u8]> {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.mapping.len()), "a range of a map lies inside it");
        // SAFETY: the range lies inside the mapping, which lives as long as `self`. By the contract of `Map::bytes` nobody
        // writes to the range while it is read, or the reader checks what it read.
        Cow::Borrowed(unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().add(offset), length) })
    }

    fn is_resident(&self, offset: usize, length: usize) -> bool {
        let range = self.whole_pages(offset, length);
        let mut pages = vec![0u8; range.len().div_ceil(page_bytes())];
        // SAFETY: the range lies inside the mapping and starts on a page; there is a byte for each page of it.
        let known = unsafe {
            libc::mincore(self.mapping.as_ptr().add(range.start) as *mut _, range.len(), pages.as_mut_ptr().cast())
        };
        known == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    fn populate(&self, offset: usize, length: usize) {
        let range = self.whole_pages(offset, length);
        // SAFETY: the range lies inside the mapping and starts on a page. The advice reads pages and changes none.
        let advised = unsafe {
            libc::madvise(self.mapping.as_ptr().add(range.start) as *mut _, range.len(), libc::MADV_POPULATE_READ)
        };
        // Kernels before 5.14 do not support it. Any other failure shows again in the code that reads.
        if advised != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
            self.touch(range);
        }
    }

    fn release(&self, offset: usize, length: usize) {
        let page = page_bytes();
        let end = offset.saturating_add(length).min(self.mapping.len());
        // Only whole pages inside the range: a neighbour's bytes stay resident. The last page of the file counts as whole.
        let end = if end == self.mapping.len() { end } else { end - end % page };
        let start = offset.next_multiple_of(page);
        if start < end {
            // SAFETY: the range lies inside the mapping and starts on a page. For a shared mapping of a file the advice drops
            // resident pages; their bytes come back from the page cache.
            unsafe { libc::madvise(self.mapping.as_ptr().add(start) as *mut _, end - start, libc::MADV_DONTNEED) };
        }
    }
}
