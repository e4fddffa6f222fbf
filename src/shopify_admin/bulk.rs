//! Bulk operations over whole orders: started, found again, watched, and their files downloaded.
//!
//! Nothing here cancels an operation: another program may have started it. Of an operation that
//! failed nothing is used, since a file that was cut off does not say what it lacks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{CONTENT_RANGE, RANGE};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::client::AdminClient;
use super::documents::{self, BULK_ORDERS, PageCursor};
use super::error::{AdminError, text};
use super::span::OrderSpan;

/// Bound on connecting to the server of a file, and on each of its silences.
const FILE_LIMIT: Duration = Duration::from_secs(30);
/// How long one call downloads.
const PORTION: Duration = Duration::from_secs(5);
/// Further attempts to start an operation whose start is unknown.
const ATTEMPTS: usize = 3;

/// What came of starting an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkStart {
    /// It is under way, under that gid.
    Started(String),
    /// As many run as Shopify allows; its own words, which name them.
    Busy(String),
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkState {
    /// It runs, and has found so many objects.
    Running(u64),
    /// Its file; none where it found no order.
    Completed(Option<BulkFile>),
    /// Shopify could not carry it out, for that reason; over fewer orders it may.
    Failed(String),
    /// It has no file (any more), for that reason.
    Gone(&'static str),
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkFile {
    /// Address, which is a secret: whoever has it has the file.
    url: String,
    /// Its size.
    pub bytes: u64,
    /// Lines in it.
    pub objects: u64,
    /// Those that are orders.
    pub orders: u64,
}

/// Starts an operation over the orders of the span, by `created_at` or `updated_at`. `asked_since`: it
/// may have been started before, at that time or later; then that one is taken.
///
/// # Errors
/// Shopify refuses it, or does not answer.
pub async fn start(
    client: &AdminClient,
    span: OrderSpan,
    field: &str,
    asked_since: Option<OffsetDateTime>,
) -> Result<BulkStart, AdminError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RunAnswer {
        bulk_operation_run_query: Payload,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        bulk_operation: Option<StartedOperation>,
        user_errors: Vec<UserError>,
    }
    #[derive(Deserialize)]
    struct StartedOperation {
        id: String,
    }
    #[derive(Deserialize)]
    struct UserError {
        message: String,
        code: Option<String>,
    }
    let query = BULK_ORDERS.replace("SEARCH", &span.search(field));
    let (mut asked_since, mut failures) = (asked_since, 0);
    loop {
        if let Some(since) = asked_since
            && let Some(known) = find(client, &query, since).await?
        {
            return Ok(BulkStart::Started(known));
        }
        let asked_at = OffsetDateTime::now_utc() - time::Duration::minutes(1);
        let answer = client.query::<RunAnswer>(documents::BULK_RUN, json!({"q": query}));
        let payload = match answer.await {
            Ok(answer) => answer.bulk_operation_run_query,
            // Whether it was started shows in the list.
            Err(AdminError::Unavailable { .. }) if failures < ATTEMPTS => {
                failures += 1;
                asked_since = asked_since.or(Some(asked_at));
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(operation) = payload.bulk_operation {
            return Ok(BulkStart::Started(operation.id));
        }
        let is_busy =
            |error: &UserError| matches!(error.code.as_deref(), Some("OPERATION_IN_PROGRESS" | "LIMIT_REACHED"));
        let words = Vec::from_iter(payload.user_errors.iter().map(|error| &*error.message)).join("; ");
        if payload.user_errors.iter().any(is_busy) {
            return Ok(BulkStart::Busy(words));
        }
        return Err(AdminError::Refused {
            document: documents::BULK_RUN.name,
            why: words,
        });
    }
}

/// An operation with the same text that was started since then, and may still give its file.
async fn find(client: &AdminClient, query: &str, since: OffsetDateTime) -> Result<Option<String>, AdminError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ListAnswer {
        bulk_operations: ListPage,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ListPage {
        nodes: Vec<Listed>,
        page_info: PageCursor,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        id: String,
        status: String,
        #[serde(with = "time::serde::rfc3339")]
        created_at: OffsetDateTime,
        query: String,
    }
    // Blanks are no part of what is asked.
    let same = |text: &str| text.split_whitespace().eq(query.split_whitespace());
    let mut after = None;
    loop {
        let answer: ListAnswer = client.query(documents::BULK_LIST, json!({ "after": after })).await?;
        for listed in answer.bulk_operations.nodes {
            if listed.created_at < since {
                return Ok(None);
            }
            let may_have_file = matches!(&*listed.status, "CREATED" | "RUNNING" | "COMPLETED");
            if may_have_file && same(&listed.query) {
                return Ok(Some(listed.id));
            }
        }
        after = answer.bulk_operations.page_info.next();
        if after.is_none() {
            return Ok(None);
        }
    }
}

/// How far an operation is.
///
/// # Errors
/// Shopify does not answer, or the app may not read what the operation reads.
pub async fn poll(client: &AdminClient, id: &str) -> Result<BulkState, AdminError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PollAnswer {
        bulk_operation: Option<Polled>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Polled {
        status: String,
        error_code: Option<String>,
        // Numbers of 64 bits are texts.
        object_count: String,
        root_object_count: String,
        file_size: Option<String>,
        url: Option<String>,
    }
    let answer: PollAnswer = client.query(documents::BULK_POLL, json!({ "id": id })).await?;
    let Some(polled) = answer.bulk_operation else {
        return Ok(BulkState::Gone("Shopify does not know it any more"));
    };
    let number = |text: &str| text.parse().unwrap_or(0);
    let objects = number(&polled.object_count);
    Ok(match &*polled.status {
        "COMPLETED" if objects == 0 => BulkState::Completed(None),
        "COMPLETED" => match polled.url {
            Some(url) => BulkState::Completed(Some(BulkFile {
                url,
                bytes: number(polled.file_size.as_deref().unwrap_or_default()),
                objects,
                orders: number(&polled.root_object_count),
            })),
            None => BulkState::Gone("its file has expired"),
        },
        "EXPIRED" => BulkState::Gone("its file has expired"),
        "CANCELED" | "CANCELING" => BulkState::Gone("it was canceled"),
        "FAILED" => match polled.error_code.as_deref() {
            Some("ACCESS_DENIED") => {
                return Err(AdminError::Denied {
                    shop: client.identity().shop.clone(),
                    why: "ACCESS_DENIED: give the app protected customer data, level 1 (docs/SHOPIFY.md), and its access scopes"
                        .to_owned(),
                });
            }
            code => BulkState::Failed(code.unwrap_or("without a reason").to_owned()),
        },
        _ => BulkState::Running(objects),
    })
}

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The address is no longer good: the operation has to be run again.
    #[error("the address of the file has expired")]
    Expired,
    /// It may succeed later.
    #[error("{0}")]
    Again(String),
    /// The disk does not take it.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Downloads more of a file, for a few seconds, and goes on where it ended before; answers how many
/// bytes are there.
///
/// # Errors
/// Why nothing more came. What had come stays.
pub async fn download(file: &BulkFile, to: &mut File) -> Result<u64, DownloadError> {
    let again = |error: reqwest::Error| DownloadError::Again(text(error));
    let mut length = to.metadata()?.len();
    if length > file.bytes {
        to.set_len(0)?;
        length = 0;
    }
    if length == file.bytes {
        return Ok(length);
    }
    // Not the client that sends the token.
    let http = reqwest::Client::builder()
        .connect_timeout(FILE_LIMIT)
        .read_timeout(FILE_LIMIT)
        .build()
        .map_err(again)?;
    let asked = http.get(&file.url).header(RANGE, format!("bytes={length}-"));
    let mut answer = asked.send().await.map_err(again)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = answer
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|range| range.to_str().ok());
            if !range.is_some_and(|range| range.starts_with(&format!("bytes {length}-"))) {
                return Err(DownloadError::Again("another part than was asked for".to_owned()));
            }
        }
        // All of it, from its start.
        StatusCode::OK => {
            to.set_len(0)?;
            length = 0;
        }
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => return Err(DownloadError::Expired),
        status => return Err(DownloadError::Again(format!("HTTP {}", status.as_u16()))),
    }
    to.seek(SeekFrom::Start(length))?;
    let end = Instant::now() + PORTION;
    while Instant::now() < end
        && let Some(chunk) = answer.chunk().await.map_err(again)?
    {
        to.write_all(&chunk)?;
        length += chunk.len() as u64;
    }
    Ok(length)
}

/// Whether a downloaded file has as many lines and orders as Shopify counted.
///
/// # Errors
/// The file cannot be read.
pub fn is_whole(file: &BulkFile, path: &Path) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut line, mut lines, mut orders) = (Vec::new(), 0, 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        lines += 1;
        // In a value the quotation marks are escaped.
        if memchr::memmem::find(&line, b"\"__parentId\":").is_none() {
            orders += 1;
        }
        line.clear();
    }
    Ok((lines, orders) == (file.objects, file.orders))
}
