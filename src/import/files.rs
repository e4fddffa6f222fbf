//! Files of orders, compressed or not, read piece by piece.
//!
//! Owns which forms there are and how one is told from another: by its first line.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ImportError;

/// What the pieces of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileForm {
    /// Nodes of a bulk operation, one a line.
    Bulk,
    /// Whole orders of the REST Admin API.
    Rest,
}

/// Bytes in memory at once, beside one line.
const BUFFER: usize = 1 << 20;
/// First bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Calls `piece` with the form of the file, line (or place in an envelope, from 1) and JSON of each.
///
/// # Errors
/// The file cannot be read, is of another form, or `piece` fails.
pub(super) fn read_pieces(
    path: &Path,
    mut piece: impl FnMut(FileForm, u64, &RawValue) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let io = |source| ImportError::Io {
        path: path.to_owned(),
        source,
    };
    let form_error = |why: &str| ImportError::Form {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let mut plain = BufReader::with_capacity(BUFFER, File::open(path).map_err(io)?);
    let is_compressed = plain.fill_buf().map_err(io)?.starts_with(&GZIP);
    let source: Box<dyn Read> = if is_compressed {
        Box::new(MultiGzDecoder::new(plain))
    } else {
        Box::new(plain)
    };
    let mut reader = BufReader::with_capacity(BUFFER, source);
    let mut line = String::new();
    let mut number = 0;
    // Its first line that is not blank tells the form.
    while line.trim().is_empty() {
        line.clear();
        number += 1;
        if reader.read_line(&mut line).map_err(io)? == 0 {
            return Ok(());
        }
    }
    let Some(form) = form_of_line(&line) else {
        let whole = std::io::Cursor::new(line.into_bytes()).chain(reader);
        return envelope(whole, path, &mut piece);
    };
    loop {
        if !line.trim().is_empty() {
            let json: &RawValue = serde_json::from_str(line.trim())
                .map_err(|error| form_error(&format!("line {number} is not JSON (column {})", error.column())))?;
            piece(form, number, json)?;
        }
        line.clear();
        number += 1;
        if reader.read_line(&mut line).map_err(io)? == 0 {
            return Ok(());
        }
    }
}

/// The form of a file whose first line is this; none where a line is no piece.
fn form_of_line(line: &str) -> Option<FileForm> {
    let first: Value = serde_json::from_str(line.trim()).ok()?;
    let is_global = |name: &str| first[name].as_str().is_some_and(|id| id.starts_with("gid://"));
    if is_global("id") || is_global("__parentId") {
        Some(FileForm::Bulk)
    } else {
        first.get("line_items").map(|_| FileForm::Rest)
    }
}

type Sink<'s> = &'s mut dyn FnMut(FileForm, u64, &RawValue) -> Result<(), ImportError>;

/// `{"orders": [...]}`, or the list alone, over any number of lines.
fn envelope(source: impl Read, path: &Path, sink: Sink<'_>) -> Result<(), ImportError> {
    let mut failed = None;
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, source));
    let orders = Envelope {
        sink,
        failed: &mut failed,
    };
    let read = orders.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(ImportError::Form {
            path: path.to_owned(),
            // Its own text may quote a value.
            why: match error.io_error_kind() {
                Some(kind) => kind.to_string(),
                None => format!("not such JSON at line {}, column {}", error.line(), error.column()),
            },
        }),
    }
}

struct Envelope<'s, 'e> {
    sink: Sink<'s>,
    failed: &'e mut Option<ImportError>,
}

impl<'de> DeserializeSeed<'de> for Envelope<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Envelope<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of orders, or an object with `orders`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { sink, failed } = self;
        let mut found = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "orders" {
                found = true;
                map.next_value_seed(Envelope { sink, failed })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(A::Error::missing_field("orders"))
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut orders: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(order) = orders.next_element::<Box<RawValue>>()? {
            place += 1;
            if let Err(error) = (self.sink)(FileForm::Rest, place, &order) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
