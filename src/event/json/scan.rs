//! The inside of a JSON string, byte by byte.

use super::read_error::ReadError;

/// Length of the text before a quote, an escape or a control character; less than eight bytes before its end they are
/// left out. Eight bytes are looked at at a time: `x - 1 & !x` has the highest bit of the lowest byte that is 0, and
/// `x - 32 & !x` of the lowest that is below 32.
#[inline(always)]
pub(super) fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    let below = |x: u64, limit: u64| x.wrapping_sub(ONES * limit) & !x;
    let mut length = 0;
    for eight in text.as_chunks().0 {
        let eight = u64::from_le_bytes(*eight);
        let quote = below(eight ^ (ONES * u64::from(b'"')), 1);
        let escape = below(eight ^ (ONES * u64::from(b'\\')), 1);
        let special = (quote | escape | below(eight, 32)) & HIGHEST;
        if special != 0 {
            return length + special.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length
}

/// Length of the escape that the text begins with. Which character four digits mean is asked where it is read.
#[cold]
pub(super) fn escape(text: &[u8]) -> Result<usize, ReadError> {
    match text {
        [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
        [_, b'u', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => Ok(6),
        _ => Err(ReadError::Syntax),
    }
}
