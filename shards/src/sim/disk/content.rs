//! The bytes of one simulated file: what reads show (the page cache), what is on the platter, and which pages differ.
//!
//! Guarantees: a page is durable only after a sync that began after its last write, or if the seed decides that the system
//! wrote it back by itself. A power loss keeps any subset of the dirty pages, torn at sectors if requested. After a failed sync
//! its pages count as clean although they are not durable, as on Linux.

use super::super::prng::Prng;
use std::collections::BTreeMap;

/// Bytes of a page.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Bytes that a disk writes atomically.
const SECTOR_BYTES: usize = 512;

/// The bytes of one file.
#[derive(Default)]
pub(super) struct Content {
    /// What reads show.
    pub(super) current: Vec<u8>,
    durable: Vec<u8>,
    /// Pages written since their last writeback, with the version of the write.
    dirty: BTreeMap<u64, u64>,
    /// Versions of the pages in `durable`, so that a slow sync never overwrites what a later one wrote.
    durable_versions: BTreeMap<u64, u64>,
    length_dirty: Option<u64>,
    durable_length_version: u64,
    version: u64,
    /// Reserved bytes, in whole pages.
    pub(super) allocated: u64,
}

/// What a sync will make durable: the state at its start.
pub(in super::super) struct SyncTicket {
    pages: Vec<(u64, u64, Vec<u8>)>,
    length: Option<(u64, usize)>,
}

/// `length` rounded up to whole pages.
pub(super) fn whole_pages(length: u64) -> u64 {
    length.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

fn page_range(page: u64, length: usize) -> std::ops::Range<usize> {
    let start = ((page * PAGE_BYTES) as usize).min(length);
    start..(start + PAGE_BYTES as usize).min(length)
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.current.len() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.current.len());
        let length = buffer.len().min(self.current.len() - start);
        buffer[..length].copy_from_slice(&self.current[start..start + length]);
        length
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, prng: &mut Prng) {
        if bytes.is_empty() {
            return;
        }
        let start = offset as usize;
        let end = start + bytes.len();
        let first = offset / PAGE_BYTES;
        let last = (end as u64 - 1) / PAGE_BYTES;
        for page in first..=last {
            // The system may write a page back at any time. A later loss then falls back to this state of the page.
            if self.dirty.contains_key(&page) && prng.one_in(8) {
                self.write_back(page);
            }
        }
        if end > self.current.len() {
            self.set_length(end as u64);
        }
        self.current[start..end].copy_from_slice(bytes);
        self.touch(first..last + 1);
    }

    /// Sets the length; new bytes are zero.
    pub(super) fn set_length(&mut self, length: u64) {
        let old = self.length();
        self.current.resize(length as usize, 0);
        self.touch(old.min(length) / PAGE_BYTES..old.max(length).div_ceil(PAGE_BYTES));
        self.length_dirty = Some(self.version);
    }

    fn touch(&mut self, pages: std::ops::Range<u64>) {
        self.version += 1;
        for page in pages {
            self.dirty.insert(page, self.version);
        }
    }

    fn write_back(&mut self, page: u64) {
        let range = page_range(page, self.current.len());
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        let bytes = self.current[range.clone()].to_vec();
        self.durable[range].copy_from_slice(&bytes);
        let version = self.dirty.get(&page).copied().unwrap_or(self.version);
        self.durable_versions.insert(page, version);
    }

    pub(super) fn begin_sync(&self) -> SyncTicket {
        let page = |(&page, &version)| (page, version, self.current[page_range(page, self.current.len())].to_vec());
        SyncTicket {
            pages: self.dirty.iter().map(page).collect(),
            length: self.length_dirty.map(|version| (version, self.current.len())),
        }
    }

    /// Ends a sync. A failed one writes some of its pages and forgets that the others are dirty.
    pub(super) fn finish_sync(&mut self, ticket: SyncTicket, failed: bool, prng: &mut Prng) {
        if let Some((version, length)) = ticket.length {
            let written = !failed || prng.one_in(2);
            if written && version > self.durable_length_version {
                self.durable.resize(length, 0);
                self.durable_length_version = version;
            }
            if self.length_dirty == Some(version) {
                self.length_dirty = None;
            }
        }
        for (page, version, bytes) in ticket.pages {
            let written = !failed || prng.one_in(2);
            if written && self.durable_versions.get(&page).is_none_or(|&durable| durable < version) {
                let start = (page * PAGE_BYTES) as usize;
                if !bytes.is_empty() {
                    if self.durable.len() < start + bytes.len() {
                        self.durable.resize(start + bytes.len(), 0);
                    }
                    self.durable[start..start + bytes.len()].copy_from_slice(&bytes);
                }
                self.durable_versions.insert(page, version);
            }
            if self.dirty.get(&page) == Some(&version) {
                self.dirty.remove(&page);
            }
        }
    }

    /// Flips bits of a byte, everywhere it is stored.
    pub(super) fn rot(&mut self, at: usize, bits: u8) {
        for bytes in [&mut self.current, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
    }

    /// Whether all visible bytes count as written back.
    pub(super) fn clean(&self) -> bool {
        self.dirty.is_empty() && self.length_dirty.is_none()
    }

    /// Simulates a power loss: reads then show what is on the platter.
    pub(super) fn lose_power(&mut self, survive_percent: u64, torn: bool, prng: &mut Prng) {
        let length = self.surviving_length(prng);
        let mut bytes = std::mem::take(&mut self.durable);
        bytes.resize(length, 0);
        for &page in self.dirty.keys() {
            let range = page_range(page, length.min(self.current.len()));
            if torn && prng.one_in(4) {
                for start in range.clone().step_by(SECTOR_BYTES) {
                    let sector = start..(start + SECTOR_BYTES).min(range.end);
                    if prng.one_in(2) {
                        bytes[sector.clone()].copy_from_slice(&self.current[sector]);
                    }
                }
            } else if prng.percent(survive_percent) {
                bytes[range.clone()].copy_from_slice(&self.current[range]);
            }
        }
        *self = Content {
            durable: bytes.clone(),
            allocated: whole_pages(bytes.len() as u64),
            current: bytes,
            ..Content::default()
        };
    }

    fn surviving_length(&self, prng: &mut Prng) -> usize {
        if self.length_dirty.is_none() {
            return self.durable.len();
        }
        let (durable, current) = (self.durable.len(), self.current.len());
        match prng.below(3) {
            0 => durable,
            1 => current,
            _ if current > durable => {
                let between = prng.between(durable as u64, current as u64);
                (whole_pages(between) as usize).clamp(durable, current)
            }
            _ => current,
        }
    }
}
