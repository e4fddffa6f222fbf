//! Kept bodies: zstd, then base64, as `raw` and `raw_encoding`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::{fmt, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

const WHOLE: &str = "zstd+base64";
const REDACTED: &str = "redacted+zstd+base64";

/// zstd's own default: orders shrink to a fifth in well under a millisecond.
const ZSTD_LEVEL: i32 = 3;

thread_local! {
    /// Kept for the thread: to set a compressor up costs more than to compress a body.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A body in the form of the fields `raw` and `raw_encoding`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    pub(super) text: Bytes,
    pub(super) encoding: &'static str,
}

impl Raw {
    /// Packs an unchanged body.
    ///
    /// # Errors
    /// Where zstd cannot get memory.
    pub fn whole(body: &[u8]) -> io::Result<Self> {
        Self::pack(body, WHOLE)
    }

    /// Packs a body from which the personal fields have been removed.
    ///
    /// # Errors
    /// Where zstd cannot get memory.
    pub fn redacted(body: &[u8]) -> io::Result<Self> {
        Self::pack(body, REDACTED)
    }

    fn pack(body: &[u8], encoding: &'static str) -> io::Result<Self> {
        let packed = PACKER.with_borrow_mut(|packer| match packer {
            Some(ready) => ready.compress(body),
            none => none.insert(Compressor::new(ZSTD_LEVEL)?).compress(body),
        })?;
        Ok(Self {
            text: STANDARD.encode(packed).into(),
            encoding,
        })
    }
}

/// Unpacks bodies. To be reused: to set a decompressor up costs more than to decompress a body.
#[derive(Default)]
pub struct Unpacker(Option<Decompressor<'static>>);

impl Unpacker {
    /// The body behind `raw` and `raw_encoding`, at most `limit` bytes of it.
    ///
    /// # Errors
    /// The encoding is not ours, the text is damaged, or the body is larger than `limit`.
    pub fn unpack(&mut self, raw: &[u8], raw_encoding: &str, limit: usize) -> Result<Vec<u8>, UnpackError> {
        if ![WHOLE, REDACTED].contains(&raw_encoding) {
            return Err(UnpackError::Encoding);
        }
        let packed = STANDARD.decode(raw).map_err(|_| UnpackError::Damaged)?;
        self.unpack_frame(&packed, limit)
    }

    /// The body in a zstd frame, at most `limit` bytes of it.
    ///
    /// # Errors
    /// It is no frame, is damaged, or the body is larger than `limit`.
    pub fn unpack_frame(&mut self, packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
        // The frame has the size of the body; to allocate for the largest body costs more than to
        // decompress.
        let size = zstd::zstd_safe::get_frame_content_size(packed).map_err(|_| UnpackError::Damaged)?;
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(limit);
        let body = match &mut self.0 {
            Some(ready) => ready.decompress(packed, size.min(limit)),
            none => Decompressor::new().and_then(|new| none.insert(new).decompress(packed, size.min(limit))),
        };
        body.map_err(|_| UnpackError::Damaged)
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

/// Why a kept body cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The encoding of another program or of a later version.
    #[error("raw_encoding is neither zstd+base64 nor redacted+zstd+base64")]
    Encoding,
    /// Not in the named encoding, or too large.
    #[error("raw is damaged, or larger than the limit")]
    Damaged,
}

/// The zstd bytes of `raw`; a value in another encoding, or a damaged one, is left unchanged.
pub(super) fn compressed<'a>(raw: &'a Bytes, encoding: Option<&Bytes>) -> Cow<'a, [u8]> {
    let ours = encoding.is_some_and(|encoding| [WHOLE, REDACTED].iter().any(|known| known.as_bytes() == encoding));
    match STANDARD.decode(raw) {
        Ok(bytes) if ours => Cow::Owned(bytes),
        Ok(_) | Err(_) => Cow::Borrowed(raw),
    }
}
