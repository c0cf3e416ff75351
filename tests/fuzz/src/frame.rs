//! Target `frame`: bytes as one frame of the WAL.
//!
//! Promises: a decoded header encodes to the same bytes. The parts of a frame add up; every line is inside the payload, and
//! the lines fill it. A flipped bit always invalidates the checksum. Records inside keep the promises of
//! [`crate::checkpoint`].

use crate::{Verdict, checkpoint};
use std::borrow::Cow;
use tailwater_shards::limits::FRAME_BYTES_MAX;
use tailwater_shards::wal::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, FrameView, checksum, checksum_holds};

/// See the module.
pub fn check(data: &[u8]) -> Verdict {
    let Ok(header) = FrameHeader::decode(data) else { return Verdict::Refused };
    let length = header.length as usize;
    assert!(length.is_multiple_of(8) && (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length));
    let mut again = [0; FRAME_HEADER_BYTES];
    header.encode(&mut again);
    assert_eq!(FrameHeader::decode(&again), Ok(header), "a header comes back as it was written");
    let Some(bytes) = data.get(..length) else {
        assert!(FrameView::new(Cow::Borrowed(data)).is_err(), "a frame that is cut short is none");
        return Verdict::Refused;
    };
    checksums(bytes);
    let Ok(view) = FrameView::new(Cow::Borrowed(bytes)) else { return Verdict::Refused };
    assert_eq!(*view.header(), header);
    let whole = lines(&view) & positions(&view);
    let record = match header.kind {
        FrameKind::Snapshot => checkpoint::snapshot(view.payload()),
        FrameKind::Commit => checkpoint::commit(view.payload()),
        FrameKind::Events | FrameKind::Seal | FrameKind::Mark => true,
    };
    Verdict::accepted(whole && record)
}

/// One flipped bit, at a position derived from the frame itself, is always detected.
fn checksums(bytes: &[u8]) {
    let mut changed = bytes.to_vec();
    let right = checksum(&changed);
    changed[4..8].copy_from_slice(&right.to_le_bytes());
    assert!(checksum_holds(&changed));
    let bit = right as usize % ((changed.len() - 4) * 8);
    changed[4 + bit / 8] ^= 1 << (bit % 8);
    assert!(!checksum_holds(&changed), "bit {bit} of {} bytes was turned", bytes.len());
}

fn lines(view: &FrameView<'_>) -> bool {
    let header = view.header();
    let Ok(all) = view.lines(0) else {
        assert!(view.lines(u32::MAX).is_err(), "whether lines can be read does not depend on where one begins");
        return false;
    };
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), header.events as usize);
    let joined: Vec<u8> = all.iter().flat_map(|line| line.bytes).copied().collect();
    assert_eq!(joined, view.payload(), "lines fill the payload");
    for first in [1, header.events / 2, header.events, u32::MAX] {
        let Ok(some) = view.lines(first) else { panic!("lines from {first} on cannot be read") };
        let some: Vec<_> = some.collect();
        assert_eq!(some, all[(first as usize).min(all.len())..], "lines from {first} on");
    }
    true
}

fn positions(view: &FrameView<'_>) -> bool {
    let mut good = true;
    for position in view.positions() {
        assert!(good, "nothing is read behind a malformed position");
        match position {
            Ok(position) => {
                assert!(position.range.from <= position.range.to);
                checkpoint::position(&position);
            }
            Err(_) => good = false,
        }
    }
    good
}
