//! The disk for which the WAL is compiled: what a segment maps, and nothing else.
//!
//! Guarantees: a model fails if a frame is read while it is written, or without a hand-over from its writer.

use loom::cell::UnsafeCell;
use std::cell::Cell;

/// See the engine's own. Models test the code that ships.
pub enum Sabotage {
    RecycleEarly,
}

/// See the engine's own.
pub trait Disk: Clone + 'static {
    type Map: Map;

    fn sabotaged(_: Sabotage) -> bool {
        false
    }
}

/// See the engine's own.
pub trait Map {
    fn length(&self) -> usize;
    fn release(&self, offset: usize, length: usize);
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Events,
    Snapshot,
    Seal,
}

/// A minimal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub sequence: u64,
    pub kind: Kind,
}

/// Number of bytes that one frame stands for.
pub const FRAME_BYTES: u64 = 8;

/// Number of frames in a segment.
pub const SEGMENT_FRAMES: u64 = 3;

/// The only disk.
#[derive(Clone)]
pub struct Memory;

impl Disk for Memory {
    type Map = Slots;
}

/// The frames of a segment. Loom checks the accesses to each.
pub struct Slots(Vec<(UnsafeCell<()>, Cell<Option<Frame>>)>);

impl Slots {
    /// A segment without frames.
    pub fn new() -> Slots {
        Slots((0..SEGMENT_FRAMES).map(|_| (UnsafeCell::new(()), Cell::new(None))).collect())
    }

    fn slot(&self, offset: u64) -> &(UnsafeCell<()>, Cell<Option<Frame>>) {
        &self.0[(offset / FRAME_BYTES) as usize]
    }

    /// The frame at `offset`.
    pub fn read(&self, offset: u64) -> Option<Frame> {
        let (access, frame) = self.slot(offset);
        access.with(|_| frame.get())
    }

    /// Replaces the frame at `offset`.
    pub fn write(&self, offset: u64, frame: Option<Frame>) {
        let (access, slot) = self.slot(offset);
        access.with_mut(|_| slot.set(frame));
    }
}

impl Map for Slots {
    fn length(&self) -> usize {
        self.0.len() * FRAME_BYTES as usize
    }

    fn release(&self, _: usize, _: usize) {}
}
