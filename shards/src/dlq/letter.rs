//! Encoding and decoding of dead letters.
//!
//! Guarantees: an encoded letter decodes to the same letter, except that texts which are too long are truncated. Decoding never
//! panics and never accepts a letter longer than the maximum, whatever the bytes. The layout is described in the module
//! documentation of [`super`].

use crate::env::Timestamp;
use crate::limits::FRAME_BYTES_MAX;
use crate::wal::bytes::{Malformed, Reader, pad, u32_length};
use crate::wal::frame::checksum;

/// Bytes before the texts of a letter.
pub const LETTER_HEADER_BYTES: usize = 56;

/// "TWL1".
pub const LETTER_MAGIC: u32 = u32::from_le_bytes(*b"TWL1");

const LETTER_VERSION: u8 = 1;

/// Maximum bytes of a name or a reason.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Maximum bytes of an original: it was in a frame or was read in one piece.
pub const ORIGINAL_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// A greater length means damage: four texts and an original.
pub const LETTER_BYTES_MAX: usize = (LETTER_HEADER_BYTES + 4 * TEXT_BYTES_MAX + ORIGINAL_BYTES_MAX).next_multiple_of(8);

/// Which kind of component could not process an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ComponentKind {
    /// Its parser. The original is the bytes as they were read.
    Input = 1,
    /// A transform. The original is the bytes as they were read.
    Pipeline = 2,
    /// The destination. The original is the event's line.
    Output = 3,
}

impl ComponentKind {
    /// The kind, as spelled in metrics and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ComponentKind::Input => "input",
            ComponentKind::Pipeline => "pipeline",
            ComponentKind::Output => "output",
        }
    }

    fn from_number(number: u8) -> Option<ComponentKind> {
        [ComponentKind::Input, ComponentKind::Pipeline, ComponentKind::Output]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// An event that could not be processed or delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Which kind of component failed.
    pub kind: ComponentKind,
    /// The component's configured name.
    pub component: &'a str,
    /// Where in the component: the parser or the transform; for an output `rejected` or `retries_exhausted`.
    pub place: &'a str,
    /// Name of its source, if known.
    pub source: &'a [u8],
    /// Why.
    pub reason: &'a str,
    /// Number of delivery attempts. Zero if there was none.
    pub attempts: u32,
    /// When the event happened.
    pub timestamp: Timestamp,
    /// Its bytes, as [`ComponentKind`] says.
    pub original: &'a [u8],
}

/// A stored letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLetter<'a> {
    /// When it was created.
    pub time: Timestamp,
    /// Bytes of its segment that were durable when it was written.
    pub synced: u64,
    /// The letter itself.
    pub letter: DeadLetter<'a>,
}

/// Letters on their way to the queue, encoded.
#[derive(Default)]
pub struct Letters {
    bytes: Vec<u8>,
    count: u64,
    time: Timestamp,
}

impl Letters {
    /// Creates an empty set.
    pub fn new() -> Letters {
        Letters::default()
    }

    /// Starts over with letters that are created at `time`.
    pub fn begin(&mut self, time: Timestamp) {
        self.bytes.clear();
        (self.count, self.time) = (0, time);
    }

    /// Adds a letter.
    pub fn push(&mut self, letter: &DeadLetter<'_>) {
        self.count += 1;
        encode(&mut self.bytes, self.time, letter);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all letters. The buffer is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// All of them, encoded.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Capacity of the buffer in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The part of `text` that fits in a letter.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Appends a letter; [`stamp`] completes it.
pub fn encode(out: &mut Vec<u8>, time: Timestamp, letter: &DeadLetter<'_>) {
    let start = out.len();
    let (component, place, reason) = (cut(letter.component), cut(letter.place), cut(letter.reason));
    let source = &letter.source[..letter.source.len().min(TEXT_BYTES_MAX)];
    let original = &letter.original[..letter.original.len().min(ORIGINAL_BYTES_MAX)];
    out.extend_from_slice(&LETTER_MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[LETTER_VERSION, letter.kind as u8, 0, 0]);
    out.extend_from_slice(&time.0.to_le_bytes());
    out.extend_from_slice(&letter.timestamp.0.to_le_bytes());
    out.extend_from_slice(&letter.attempts.to_le_bytes());
    for text in [component.as_bytes(), place.as_bytes(), source, reason.as_bytes()] {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(&u32_length(original.len()).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    for text in [component.as_bytes(), place.as_bytes(), source, reason.as_bytes(), original] {
        out.extend_from_slice(text);
    }
    pad(out, start);
    let length = u32_length(out.len() - start);
    out[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
}

/// Completes the encoded letters in `bytes`, which are about to be written to a segment of which `synced` bytes are durable.
/// Returns how many there are.
pub fn stamp(mut bytes: &mut [u8], synced: u64) -> u64 {
    let mut letters = 0;
    while let Ok(length) = length(bytes) {
        let (letter, rest) = bytes.split_at_mut(length);
        letter[48..56].copy_from_slice(&synced.to_le_bytes());
        let checksum = checksum(letter);
        letter[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes = rest;
        letters += 1;
    }
    letters
}

/// Length in bytes of the letter at the beginning of `bytes`, according to its header, if the whole letter is there.
pub fn length(bytes: &[u8]) -> Result<usize, Malformed> {
    claimed_length(bytes).and_then(|length| if length <= bytes.len() { Ok(length) } else { Err(Malformed) })
}

/// Length in bytes according to the header at the beginning of `bytes`. Never more than [`LETTER_BYTES_MAX`].
pub fn claimed_length(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u32()? != LETTER_MAGIC {
        return Err(Malformed);
    }
    reader.u32()?;
    let length = reader.u32()? as usize;
    let possible = length.is_multiple_of(8) && (LETTER_HEADER_BYTES..=LETTER_BYTES_MAX).contains(&length);
    if possible { Ok(length) } else { Err(Malformed) }
}

/// Kind, component and source of the letter at the beginning of `bytes`, which was encoded here: no checksum is verified.
pub fn owner(bytes: &[u8]) -> Result<(ComponentKind, &str, &[u8]), Malformed> {
    let mut reader = Reader::new(bytes);
    reader.take(13)?;
    let kind = ComponentKind::from_number(reader.u8()?).ok_or(Malformed)?;
    reader.take(22)?;
    let mut lengths = [0; 3];
    for length in &mut lengths {
        *length = usize::from(reader.u16()?);
    }
    reader.take(LETTER_HEADER_BYTES - 42)?;
    let component = str::from_utf8(reader.take(lengths[0])?).map_err(|_| Malformed)?;
    reader.take(lengths[1])?;
    Ok((kind, component, reader.take(lengths[2])?))
}

/// Decodes the letter at the beginning of `bytes`, verifies its checksum, and returns its length in bytes.
pub fn decode(bytes: &[u8]) -> Result<(KeptLetter<'_>, usize), Malformed> {
    let length = length(bytes)?;
    if bytes[4..8] != checksum(&bytes[..length]).to_le_bytes() {
        return Err(Malformed);
    }
    let mut reader = Reader::new(&bytes[12..length]);
    if reader.u8()? != LETTER_VERSION {
        return Err(Malformed);
    }
    let kind = ComponentKind::from_number(reader.u8()?).ok_or(Malformed)?;
    reader.take(2)?;
    let (time, timestamp) = (Timestamp(reader.i64()?), Timestamp(reader.i64()?));
    let attempts = reader.u32()?;
    let mut lengths = [0; 4];
    for length in &mut lengths {
        *length = usize::from(reader.u16()?);
    }
    let original = reader.u32()? as usize;
    let synced = reader.u64()?;
    let text = |bytes| str::from_utf8(bytes).map_err(|_| Malformed);
    let letter = DeadLetter {
        kind,
        component: text(reader.take(lengths[0])?)?,
        place: text(reader.take(lengths[1])?)?,
        source: reader.take(lengths[2])?,
        reason: text(reader.take(lengths[3])?)?,
        attempts,
        timestamp,
        original: reader.take(original)?,
    };
    Ok((KeptLetter { time, synced, letter }, length))
}
