//! A shop's history from files, also those of bulk operations that it asks for: orders are gathered on disk and become events.
//!
//! # Layout
//! `files.rs` reads a file of whatever form, piece by piece; `staging.rs` keeps the pieces in
//! `import.db` of the data folder (SQLite), and `staging/windows.rs` which windows of a shop's history
//! are to be asked for. [`Import`] goes from one to the other and makes the events, in batches.
//! Appending them, and asking Shopify for files, is the caller's work.
//!
//! # Invariants
//! - Memory does not grow with the file: it holds one line and one batch.
//! - Pieces leave the disk after their order was settled, so that a run that was killed goes on
//!   where it was. An order that is appended again has the same event id.
//! - Nothing personal is stored: an order of the REST API becomes its event when it is read, and of
//!   a bulk operation's line only the fields that are read are kept.
//! - One import at a time has the file, by a lock of its own.
//!
//! A bulk operation's file has an order's children (lines, agreements, their sales) anywhere in it,
//! each with the id of its parent: nothing is known of an order before the whole file is read.

mod files;
mod staging;

use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use self::files::{FileForm, read_pieces};
pub use self::staging::{BulkWindow, ImportPlan, WindowTable};
use self::staging::{Root, Staging};
use crate::shopify::{self, AdminOrder, Asked, KeptNames, Request, ShopZone};
use crate::sqlite::FileError;

/// Rejections that are named; the rest is counted.
const NAMED: usize = 100;

/// Why an import cannot go on. Texts name no content.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is of no known form.
    #[error(
        "{path}: neither a bulk operation's JSONL, nor orders of the REST API ({{\"orders\": [...]}}, a list, or one a line): {why}"
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Times of a bulk operation are in UTC.
    #[error(
        "{path}: a bulk operation's file has its times in UTC, and the day of a sale is the shop's: give --time-zone, such as \
         Europe/Berlin"
    )]
    NoZone {
        /// The file.
        path: PathBuf,
    },
    /// Another import has the file of the data folder.
    #[error("another import is running on {0}: wait for its end, or set ORDERSTREAM_DATA_DIR to another folder")]
    Busy(PathBuf),
    /// The file of the data folder cannot be used.
    #[error("{path}: {why}; free the disk or remove the file, which holds nothing but what the import files hold")]
    Staging {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// An order that became no event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rejected {
    /// The file.
    pub file: String,
    /// The line, or in an envelope of orders the place of the order, from 1.
    pub line: u64,
    /// Why. Names fields, never values.
    pub reason: String,
}

/// Rejections: the first of them, and their number.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Rejections {
    /// How many.
    pub count: u64,
    /// The first hundred.
    pub first: Vec<Rejected>,
}

impl Rejections {
    fn add(&mut self, file: &Path, line: u64, reason: impl ToString) {
        self.count += 1;
        if self.first.len() < NAMED {
            let (file, reason) = (file.display().to_string(), reason.to_string());
            self.first.push(Rejected { file, line, reason });
        }
    }
}

/// What an import is told beside its files.
#[derive(Debug, Clone, Copy)]
pub struct ImportOptions<'s> {
    /// Why orders were asked for, which their events say.
    pub asked: Asked,
    /// Domain of the shop.
    pub shop: &'s str,
    /// The shop's, where it is known; needed for bulk operations.
    pub zone: Option<ShopZone>,
    /// What themes and apps put onto orders and is kept.
    pub kept: KeptNames<'s>,
}

/// Orders of one batch.
#[derive(Debug, Default)]
pub struct ImportBatch {
    /// Events as JSON.
    pub events: Vec<String>,
    orders: Vec<Root>,
}

impl ImportBatch {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.orders.is_empty()
    }
}

/// An import that is under way.
pub struct Import<'s> {
    staging: Staging,
    options: ImportOptions<'s>,
    /// Orders that became no event.
    pub rejections: Rejections,
}

/// What there is to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It was imported before.
    Done,
    /// So many orders are to be sent.
    Staged(u64),
}

impl<'s> Import<'s> {
    /// Opens the file of the data folder at `path`; `restart` forgets what was done before.
    ///
    /// # Errors
    /// Another import runs, or the file cannot be used.
    pub fn open(path: &Path, options: ImportOptions<'s>, restart: bool) -> Result<Self, ImportError> {
        let staging = Staging::open(path, restart)?;
        Ok(Self {
            staging,
            options,
            rejections: Rejections::default(),
        })
    }

    /// The windows of the shop's history that are left.
    pub fn windows(&mut self) -> WindowTable<'_> {
        WindowTable {
            staging: &mut self.staging,
            shop: self.options.shop,
        }
    }

    /// Reads a file to the disk, unless that was done before. `read` is told of each piece.
    ///
    /// # Errors
    /// It cannot be read or staged.
    pub fn stage(&mut self, file: &Path, mut read: impl FnMut()) -> Result<FileState, ImportError> {
        let io = |source| ImportError::Io {
            path: file.to_owned(),
            source,
        };
        let path = std::path::absolute(file).map_err(io)?;
        let size = std::fs::metadata(&path).map_err(io)?.len();
        if let Some(state) = self.staging.state_of(&path, size)? {
            return Ok(state);
        }
        let mut writer = self.staging.begin()?;
        let (options, rejections) = (self.options, &mut self.rejections);
        let received_at = OffsetDateTime::now_utc();
        read_pieces(&path, |form, line, json| {
            read();
            let piece = match form {
                FileForm::Bulk if options.zone.is_none() => return Err(ImportError::NoZone { path: path.clone() }),
                FileForm::Bulk => bulk_piece(json),
                FileForm::Rest => rest_piece(json, options, received_at),
            };
            match piece {
                Ok(piece) => writer.add(line, &piece),
                Err(reason) => {
                    rejections.add(file, line, reason);
                    Ok(())
                }
            }
        })?;
        writer.commit(&path, size)
    }

    /// The next orders as events, at most so many and of about so many bytes. Orders that become no
    /// event are rejected on the way.
    ///
    /// # Errors
    /// What is staged cannot be read.
    pub fn next(&mut self, file: &Path, most: usize, most_bytes: usize) -> Result<ImportBatch, ImportError> {
        let mut batch = ImportBatch::default();
        let mut bytes = 0;
        for root in self.staging.roots(most)? {
            let event = match &root.event {
                Some(event) => Ok(event.clone()),
                None => self.staging.order(&root)?.map_or_else(
                    || Err("the line is damaged".to_owned()),
                    |node| self.event_of(&node).map_err(|error| error.to_string()),
                ),
            };
            if let Ok(event) = &event {
                bytes += event.len();
                if bytes > most_bytes && !batch.events.is_empty() {
                    break;
                }
            }
            match event {
                Ok(event) => batch.events.push(event),
                Err(reason) => self.rejections.add(file, root.line, reason),
            }
            batch.orders.push(root);
        }
        Ok(batch)
    }

    fn event_of(&self, node: &Value) -> Result<String, shopify::ConvertError> {
        // `stage` refuses such a file without a zone.
        let Some(zone) = self.options.zone else {
            return Ok(String::new());
        };
        let order = AdminOrder::of(node, zone)?;
        let event = order.event(request(self.options, OffsetDateTime::now_utc()))?;
        Ok(serde_json::to_string(&event).unwrap_or_default())
    }

    /// Removes the orders of a batch that is appended.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn settle(&mut self, batch: ImportBatch) -> Result<(), ImportError> {
        self.staging.remove(&batch.orders)
    }

    /// Marks the file as imported; answers how many lines belong to no order of it.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn finish(&mut self, file: &Path) -> Result<u64, ImportError> {
        self.staging.finish(file)
    }

    /// Removes the file of the data folder, which nobody goes on with. Its lock stays.
    pub fn discard(self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = self.staging.path().as_os_str().to_owned();
            name.push(suffix);
            let _ = std::fs::remove_file(name);
        }
    }
}

fn request(options: ImportOptions<'_>, received_at: OffsetDateTime) -> Request<'_> {
    Request {
        asked: options.asked,
        shop: options.shop,
        received_at,
    }
}

/// What is stored of a piece.
struct Piece {
    id: Option<String>,
    parent: Option<String>,
    /// The event, or a node of a bulk operation without fields that are not read.
    json: String,
    is_event: bool,
}

fn bulk_piece(json: &RawValue) -> Result<Piece, String> {
    let mut node: Value = serde_json::from_str(json.get()).map_err(|_| "not JSON".to_owned())?;
    let text = |name: &str| node[name].as_str().map(str::to_owned);
    let (id, parent) = (text("id"), text("__parentId"));
    if id.is_none() && parent.is_none() {
        return Err("neither an id nor a __parentId: this is no line of a bulk operation over orders".to_owned());
    }
    if parent.is_none() && !id.as_deref().unwrap_or_default().starts_with("gid://shopify/Order/") {
        return Err("the id is none of an order: this is no line of a bulk operation over orders".to_owned());
    }
    shopify::keep_known_fields(&mut node);
    Ok(Piece {
        id,
        parent,
        json: node.to_string(),
        is_event: false,
    })
}

fn rest_piece(json: &RawValue, options: ImportOptions<'_>, received_at: OffsetDateTime) -> Result<Piece, String> {
    let body = json.get().as_bytes();
    let mut event = shopify::rest_order(body, request(options, received_at)).map_err(|error| error.to_string())?;
    shopify::keep_attributes(body, options.kept, &mut event);
    Ok(Piece {
        id: None,
        parent: None,
        json: serde_json::to_string(&event).map_err(|error| error.to_string())?,
        is_event: true,
    })
}

/// The reason of a file of ours that cannot be used.
fn staging_error(path: &Path) -> impl Fn(FileError) -> ImportError + use<> {
    let path = path.to_owned();
    move |error| {
        let path = path.clone();
        if matches!(error, FileError::Owned) {
            return ImportError::Busy(path);
        }
        ImportError::Staging {
            path,
            why: error.to_string(),
        }
    }
}
