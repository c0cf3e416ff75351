//! Compressed files: recognises the format by the first bytes, and reads the content of the formats that can be read.
//!
//! Guarantees: the format is decided by content, never by name. Content is decompressed forwards and only as far as it is
//! needed, in a window of limited size whatever the file claims, so no archive takes more memory than that. One step reads a
//! limited number of compressed bytes, whatever comes of them: an archive may consist of empty blocks. If an archive is
//! damaged, its content ends where the damage begins. Reads gzip and zstd, including several concatenated members. Recognises
//! xz, bzip2 and others. Does not write or seek.

use super::identity::HEAD_BYTES;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tailwater_shards::env::{File, Stat};

/// Number of first bytes that are enough to recognise every format.
pub const MAGIC_BYTES: usize = 8;

/// Largest zstd window that is accepted, as a power of two: the limit of `zstd -d` without further options.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Bytes of an archive that are read in one call.
const INPUT_BYTES: usize = 64 * 1024;

/// Compressed bytes that are read to find the first bytes of the content. A zstd block, which is decompressed as a whole, has
/// half of that.
pub const HEAD_INPUT_BYTES: u64 = 256 * 1024;

/// Compressed bytes that are read in one step.
const STEP_INPUT_BYTES: u64 = if cfg!(test) { 128 * 1024 } else { 4 * 1024 * 1024 };

/// Bytes that are decompressed in one step on the way to a position, so that other files get their turn.
pub const SKIP_BYTES: u64 = if cfg!(test) { 16 * 1024 } else { 16 * 1024 * 1024 };

/// A format of compressed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Can be read.
    Gzip,
    /// Can be read.
    Zstd,
    /// Is recognised but cannot be read; holds the common name.
    Other(&'static str),
}

/// The first bytes of each format.
const MAGICS: [(&[u8], Format); 9] = [
    (&[0x1f, 0x8b], Format::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Format::Other("xz")),
    (b"BZh", Format::Other("bzip2")),
    (&[0x04, 0x22, 0x4d, 0x18], Format::Other("lz4")),
    (b"PK\x03\x04", Format::Other("zip")),
    (&[b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c], Format::Other("7z")),
    (&[0x1f, 0x9d], Format::Other("compress")),
    (&[0x89, b'L', b'Z', b'O', 0], Format::Other("lzop")),
];

/// Extensions of archives. A file with such a name that is too short to be recognised is checked again later.
const ENDINGS: [&str; 9] = ["gz", "zst", "xz", "bz2", "lz4", "zip", "7z", "Z", "lzo"];

impl Format {
    /// The format of a file that begins with `bytes`.
    pub fn of(bytes: &[u8]) -> Option<Format> {
        let (magic, format) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic))?;
        // A line of text may begin with these three letters. In bzip2, a level and the start of a block follow.
        let is_text =
            *magic == b"BZh" && !(bytes.get(3).is_some_and(u8::is_ascii_digit) && bytes.get(4) == Some(&0x31));
        (!is_text).then_some(*format)
    }

    /// The common name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
            Format::Other(name) => name,
        }
    }

    /// Whether the content can be read.
    pub fn is_read(self) -> bool {
        !matches!(self, Format::Other(_))
    }
}

/// Whether the path has the extension of an archive.
pub fn has_archive_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ENDINGS.iter().any(|ending| extension.eq_ignore_ascii_case(ending)))
}

/// A file as a stream that owns it. At the end of its allowance it fails with `WouldBlock`, and continues when it has more.
struct Input<F> {
    file: Arc<F>,
    offset: u64,
    allowance: Arc<AtomicU64>,
}

impl<F: File> Read for Input<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.load(Ordering::Relaxed);
        if left == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += length as u64;
        // The decoder has the only stream, and whoever allows more holds the decoder.
        self.allowance.store(left - length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

fn decoder<F: File>(file: Arc<F>, format: Format, allowance: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
    let input = BufReader::with_capacity(INPUT_BYTES, Input { file, offset: 0, allowance });
    match format {
        Format::Gzip => Ok(Box::new(MultiGzDecoder::new(input))),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(decoder))
        }
        Format::Other(name) => Err(io::Error::new(ErrorKind::Unsupported, format!("{name} archives cannot be read"))),
    }
}

/// Whether a decoder's error means that the archive is truncated or damaged. Disk errors never look like this.
fn is_damage(error: &io::Error) -> bool {
    // zstd reports `Other` for any problem with a frame. Errors of the operating system have a number.
    error.raw_os_error().is_none()
        && matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::Other
        )
}

/// The first bytes of the content, at most [`HEAD_BYTES`]. Fewer if the content is shorter, unfinished or damaged, or if
/// [`HEAD_INPUT_BYTES`] or `allowed` compressed bytes hold no more. What was read is taken from `allowed`. Blocks.
pub fn head<F: File>(file: &Arc<F>, format: Format, allowed: &mut u64) -> io::Result<Vec<u8>> {
    let share = HEAD_INPUT_BYTES.min(*allowed);
    let mut content = Unpacking::new(file.clone(), format)?;
    content.allowance.store(share, Ordering::Relaxed);
    let unpacked = content.unpack_to(HEAD_BYTES as u64);
    *allowed -= share - content.allowance.load(Ordering::Relaxed);
    unpacked?;
    content.window.truncate(HEAD_BYTES);
    Ok(content.window)
}

/// The content length from the trailer of a gzip file: the lowest 32 bits of the length of the last member. Blocks.
pub fn gzip_length<F: File>(file: &F) -> io::Result<Option<u32>> {
    let length = file.stat()?.length;
    let mut trailer = [0; 4];
    if length < 18 || file.read_at(&mut trailer, length - 4)? < 4 {
        return Ok(None);
    }
    Ok(Some(u32::from_le_bytes(trailer)))
}

struct Unpacking {
    decoder: Box<dyn Read + Send>,
    /// Compressed bytes that may still be read.
    allowance: Arc<AtomicU64>,
    /// Decompressed bytes that may be requested again, and their offset in the content.
    window: Vec<u8>,
    begin: u64,
    /// Set when the end of the content is known.
    end: Option<Ended>,
}

#[derive(Clone, Copy)]
struct Ended {
    damaged: bool,
}

impl Unpacking {
    fn new<F: File>(file: Arc<F>, format: Format) -> io::Result<Unpacking> {
        let allowance = Arc::new(AtomicU64::new(0));
        let decoder = decoder(file, format, allowance.clone())?;
        Ok(Unpacking { decoder, allowance, window: Vec::new(), begin: 0, end: None })
    }

    fn reached(&self) -> u64 {
        self.begin + self.window.len() as u64
    }

    /// Decompresses up to `to`, to the end, or to the end of the allowance. Returns whether the allowance was enough.
    fn unpack_to(&mut self, to: u64) -> io::Result<bool> {
        while self.reached() < to && self.end.is_none() {
            let have = self.window.len();
            let more = usize::try_from(to - self.reached()).unwrap_or(usize::MAX).min(INPUT_BYTES);
            self.window.resize(have + more, 0);
            let read = self.decoder.read(&mut self.window[have..]);
            self.window.truncate(have + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.end = Some(Ended { damaged: false }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if is_damage(&error) => self.end = Some(Ended { damaged: true }),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Drops the bytes before `offset`.
    fn forget_before(&mut self, offset: u64) {
        let passed = usize::try_from(offset.saturating_sub(self.begin)).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..passed);
        self.begin += passed as u64;
    }
}

/// An archive as a file with its decompressed content. It is read forwards: bytes before the last requested offset may be
/// gone.
pub struct Archive<F> {
    file: Arc<F>,
    stat: Stat,
    format: Format,
    /// Created by the first read, so that archives that wait for their turn hold no memory.
    unpacking: Mutex<Option<Unpacking>>,
    /// Length of the content, or [`UNKNOWN`].
    length: AtomicU64,
    damaged: AtomicBool,
    /// Whether the last read ended because its step was over.
    paused: AtomicBool,
}

/// The length of content that was not read to its end.
const UNKNOWN: u64 = u64::MAX;

impl<F: File> Archive<F> {
    /// The content of `file`, whose format must be readable.
    pub fn new(file: Arc<F>, stat: Stat, format: Format) -> Archive<F> {
        Archive {
            file,
            stat,
            format,
            unpacking: Mutex::new(None),
            length: AtomicU64::new(UNKNOWN),
            damaged: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        }
    }

    /// The metadata of the file with the length of the content, or [`UNKNOWN`] until the end was reached.
    pub fn stat(&self) -> Stat {
        Stat { length: self.length.load(Ordering::Acquire), ..self.stat }
    }

    /// Whether the content ended early because the archive is damaged or truncated.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// Whether the last read ended because its step was over, and may find more in the next one.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Whether a read at `offset` needs no step towards it. Does not block.
    pub fn is_at(&self, offset: u64) -> bool {
        self.unpacking.try_lock().is_ok_and(|unpacking| {
            unpacking.as_ref().is_some_and(|unpacking| unpacking.reached() >= offset || unpacking.end.is_some())
        })
    }

    /// Moves towards `offset`. Returns whether the offset or the end was reached. Blocks.
    pub fn skip_to(&self, offset: u64) -> io::Result<bool> {
        self.with(|unpacking| {
            let goal = offset.min(unpacking.reached().saturating_add(SKIP_BYTES));
            while unpacking.reached() < goal && unpacking.end.is_none() {
                let step = goal.min(unpacking.reached() + INPUT_BYTES as u64);
                let goes_on = unpacking.unpack_to(step)?;
                unpacking.forget_before(step);
                if !goes_on {
                    break;
                }
            }
            Ok(unpacking.reached() >= offset || unpacking.end.is_some())
        })
    }

    /// Reads at `offset`, which must not be before the offset of an earlier read. No bytes mean the end, or the end of a step:
    /// see [`Archive::is_paused`]. Blocks.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|unpacking| {
            if offset < unpacking.begin {
                return Err(io::Error::new(ErrorKind::Unsupported, "an archive can only be read forwards"));
            }
            // The next read of the caller starts before the end of this one, so the window is kept.
            let goes_on = unpacking.unpack_to(offset.saturating_add(buffer.len() as u64))?;
            self.paused.store(!goes_on, Ordering::Release);
            let from = usize::try_from(offset - unpacking.begin).unwrap_or(usize::MAX).min(unpacking.window.len());
            let length = buffer.len().min(unpacking.window.len() - from);
            buffer[..length].copy_from_slice(&unpacking.window[from..from + length]);
            Ok(length)
        })
    }

    /// Declares that nothing before `offset` will be requested again. Does not block.
    pub fn forget_before(&self, offset: u64) {
        if let Ok(mut unpacking) = self.unpacking.try_lock()
            && let Some(unpacking) = unpacking.as_mut()
        {
            unpacking.forget_before(offset);
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Unpacking) -> io::Result<T>) -> io::Result<T> {
        let mut slot = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Unpacking::new(self.file.clone(), self.format)?);
        }
        let unpacking = slot.as_mut().expect("it was just made");
        unpacking.allowance.store(STEP_INPUT_BYTES, Ordering::Relaxed);
        let result = work(unpacking);
        if let Some(Ended { damaged }) = unpacking.end {
            self.damaged.store(damaged, Ordering::Release);
            self.length.store(unpacking.reached(), Ordering::Release);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sparse::Sparse;
    use super::*;
    use std::io::Write;
    use tailwater_shards::env::{Disk, Open};
    use tailwater_shards::sim::{SimDisk, SimFile};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).expect("memory")
    }

    fn file(bytes: &[u8]) -> (Arc<SimFile>, Format) {
        let disk = SimDisk::new(1);
        disk.outside().create_dir_all("/log").expect("made");
        disk.outside().write("/log/a", bytes).expect("written");
        let file = disk.open(Path::new("/log/a"), Open::Read).expect("there");
        (Arc::new(file), Format::of(bytes).expect("a format"))
    }

    fn archive(bytes: &[u8]) -> Archive<SimFile> {
        let (file, format) = file(bytes);
        let stat = file.stat().expect("there");
        Archive::new(file, stat, format)
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect()
    }

    #[test]
    fn formats_are_recognised_by_their_first_bytes() {
        for (bytes, format) in [
            (&gzip(b"x")[..], Some(Format::Gzip)),
            (&zstd(b"x"), Some(Format::Zstd)),
            (b"\xfd7zXZ\0\0\x04", Some(Format::Other("xz"))),
            (b"BZh91AY&", Some(Format::Other("bzip2"))),
            (b"BZh is how this line begins\n", None),
            (b"2026-11-29 started\n", None),
            (b"", None),
        ] {
            assert_eq!(Format::of(bytes), format);
        }
        assert!(
            has_archive_extension(Path::new("/log/a.log.1.GZ")) && !has_archive_extension(Path::new("/log/a.log.1"))
        );
    }

    #[test]
    fn content_is_the_same_from_any_position_and_with_any_read_sizes() {
        let whole = content(300_000);
        let members = [gzip(&whole[..100_000]), gzip(&whole[100_000..])].concat();
        let frames = [zstd(&whole[..100_000]), zstd(&whole[100_000..])].concat();
        for bytes in [gzip(&whole), zstd(&whole), members, frames] {
            let archive = archive(&bytes);
            assert_eq!(archive.stat().length, UNKNOWN);
            while !archive.skip_to(123_456).expect("read") {}
            let (mut out, mut buffer) = (Vec::<u8>::new(), vec![0; 7_000]);
            loop {
                let at = 123_456 + out.len() as u64;
                let length = archive.read_at(&mut buffer, at).expect("read");
                if length == 0 {
                    break;
                }
                assert_eq!(archive.read_at(&mut buffer, at).expect("read again"), length);
                out.extend(&buffer[..length]);
                archive.forget_before(at);
            }
            assert_eq!(out, whole[123_456..]);
            assert_eq!((archive.stat().length, archive.is_damaged()), (300_000, false));
            assert!(archive.read_at(&mut buffer, 5).is_err(), "it is not read backwards");
        }
    }

    #[test]
    fn damage_ends_the_content_and_is_reported() {
        let whole = content(300_000);
        for bytes in [gzip(&whole), zstd(&whole)] {
            let cut = archive(&bytes[..bytes.len() / 2]);
            while !cut.skip_to(u64::MAX).expect("read") {}
            assert!(cut.is_damaged() && cut.stat().length < 300_000);
            let mut odd = bytes.clone();
            let middle = odd.len() / 2;
            odd[middle..middle + 64].fill(0xff);
            let odd = archive(&odd);
            while !odd.skip_to(u64::MAX).expect("read") {}
            assert!(odd.is_damaged());
        }
    }

    /// A frame that claims a window of two gigabytes is rejected before memory is allocated for it.
    #[test]
    fn window_of_an_archive_is_bounded() {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3];
        bytes.extend([1, 0, 0]);
        let hostile = archive(&bytes);
        assert!(hostile.skip_to(1).expect("no error of the disk") && hostile.is_damaged());
        // Content that compresses extremely well: only one piece of it is in memory at a time.
        let bomb = archive(&gzip(&vec![0; 50_000_000]));
        let mut before = 0;
        while !bomb.skip_to(40_000_000).expect("read") {
            let unpacking = bomb.unpacking.lock().expect("whole");
            let (held, reached) = unpacking.as_ref().map_or((0, 0), |one| (one.window.capacity(), one.reached()));
            assert!(held <= 4 * INPUT_BYTES, "{held}");
            assert!(reached - before <= SKIP_BYTES, "one step unpacks {}", reached - before);
            before = reached;
        }
    }

    #[test]
    fn head_and_length_of_a_content() {
        let whole = content(5_000);
        for (bytes, length) in [(gzip(&whole), Some(5_000)), (zstd(&whole), None)] {
            let (file, format) = file(&bytes);
            assert_eq!(head(&file, format, &mut { u64::MAX }).expect("read"), whole[..HEAD_BYTES]);
            if length.is_some() {
                assert_eq!(gzip_length(&*file).expect("read"), length);
            }
        }
        let (short, format) = file(&gzip(b"short\n")[..20]);
        assert!(head(&short, format, &mut { u64::MAX }).expect("read").len() < 7, "cut off");
    }

    /// Archives that hold nothing but go on: empty blocks, empty members, long names in headers, and frames that are skipped.
    fn empty_archives(bytes: usize) -> Vec<Vec<u8>> {
        let mut blocks = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        blocks.extend([0, 0, 0, 0xff, 0xff].repeat(bytes / 5));
        let named = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'n'; 60_000], &[0, 3, 0], &[0; 8]].concat();
        let mut frames = zstd(b"");
        for _ in 0..bytes / 50_000 {
            frames.extend([0x50, 0x2a, 0x4d, 0x18, 0x50, 0xc3, 0, 0]);
            frames.extend(vec![7; 50_000]);
        }
        vec![blocks, gzip(b"").repeat(bytes / 20), named.repeat(bytes / 60_000), frames, zstd(b"").repeat(bytes / 9)]
    }

    #[test]
    fn head_of_an_archive_without_content_costs_a_bounded_number_of_bytes() {
        for bytes in empty_archives(1 << 20) {
            let format = Format::of(&bytes).expect("a format");
            let file = Arc::new(Sparse::new(bytes.len() as u64, vec![(0, bytes)]));
            let mut allowed = HEAD_INPUT_BYTES + 1000;
            assert_eq!(head(&file, format, &mut allowed).expect("read"), b"");
            assert_eq!((allowed, file.read_bytes()), (1000, HEAD_INPUT_BYTES));
            assert_eq!(head(&file, format, &mut allowed).expect("read"), b"");
            assert_eq!((allowed, file.read_bytes()), (0, HEAD_INPUT_BYTES + 1000));
        }
    }

    #[test]
    fn content_behind_much_of_nothing_is_reached_in_steps() {
        let whole = content(70_000);
        for mut bytes in empty_archives(1 << 20) {
            let format = Format::of(&bytes).expect("a format");
            let is_open = format == Format::Gzip && bytes[10..15] == [0, 0, 0, 0xff, 0xff];
            bytes.extend(match format {
                // The blocks belong to a member that is still open.
                _ if is_open => vec![1, 5, 0, 0xfa, 0xff, b'a', b'b', b'c', b'd', b'e'],
                Format::Gzip => gzip(&whole),
                _ => zstd(&whole),
            });
            let expected = if is_open { &b"abcde"[..] } else { &whole };
            let file = Arc::new(Sparse::new(bytes.len() as u64, vec![(0, bytes)]));
            let archive = Archive::new(file.clone(), file.stat().expect("there"), format);
            let (mut out, mut buffer, mut steps) = (Vec::<u8>::new(), vec![0; 7_000], 0);
            while archive.stat().length == UNKNOWN || out.len() < expected.len() {
                let before = file.read_bytes();
                let length = archive.read_at(&mut buffer, out.len() as u64).expect("read");
                assert!(file.read_bytes() - before <= STEP_INPUT_BYTES, "one step");
                assert!(length > 0 || archive.is_paused() || archive.stat().length != UNKNOWN);
                out.extend(&buffer[..length]);
                steps += 1;
            }
            assert!(out == expected && steps > 8, "{steps} steps");
        }
    }
}
