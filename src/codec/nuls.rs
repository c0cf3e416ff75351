//! Counts runs of NUL bytes: holes in files, and preallocated space that is not written yet.
//!
//! Guarantees: looks at many bytes at a time, so that a hole costs little more than reading it. Pure.

/// Bytes that are compared at once; the compiler turns this into a few vector instructions.
const BLOCK: usize = 64;

fn is_nul(block: &[u8]) -> bool {
    block.iter().fold(0, |all, byte| all | byte) == 0
}

/// How many NULs `bytes` begins with.
pub fn leading(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes.get(at..at + BLOCK).is_some_and(is_nul) {
        at += BLOCK;
    }
    at + bytes[at..].iter().take_while(|byte| **byte == 0).count()
}

/// How many NULs `bytes` ends with.
pub fn trailing(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    while end >= BLOCK && is_nul(&bytes[end - BLOCK..end]) {
        end -= BLOCK;
    }
    bytes.len() - end + bytes[..end].iter().rev().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_the_first_other_byte_wherever_that_is() {
        assert_eq!((leading(b""), trailing(b"")), (0, 0));
        for length in [1, 2, 63, 64, 65, 200] {
            assert_eq!((leading(&vec![0; length]), trailing(&vec![0; length])), (length, length));
            for other in 0..length {
                let mut bytes = vec![0; length];
                bytes[other] = 0x80;
                assert_eq!((leading(&bytes), trailing(&bytes)), (other, length - 1 - other));
            }
        }
    }
}
