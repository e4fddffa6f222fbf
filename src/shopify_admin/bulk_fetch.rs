//! The way from a bulk operation to its file: the operation is looked at until it is complete, and
//! the file is downloaded in parts until it is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bulk::{self, BulkFile, BulkState, DownloadError};
use super::client::AdminClient;
use super::error::AdminError;
use crate::folder;

/// Pause between two looks at an operation, and after a failed download; grows.
const POLL: Duration = Duration::from_secs(2);
const LONGEST_POLL: Duration = Duration::from_secs(30);
/// Downloads that bring nothing, and files that are not whole, until it is given up.
const ATTEMPTS: u32 = 6;

/// Follows one operation after another to their files.
pub struct BulkFetch<'a> {
    client: &'a AdminClient,
    /// The result of the operation, once it is there.
    file: Option<BulkFile>,
    /// Before the next look.
    delay: Duration,
    failures: u32,
}

/// What came of a step.
#[derive(Debug)]
pub enum BulkStep {
    /// The file is not there yet; how far it is, for a person.
    Waiting(Option<String>),
    /// The file is whole.
    Whole(BulkFile),
    /// The operation found no order.
    Empty,
    /// Shopify could not carry it out, for that reason; over fewer orders it may.
    Failed(String),
    /// It has no file (any more): another is to be started.
    Gone,
}

/// Why no file comes.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// Shopify does not answer as it should.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// One operation after another has none.
    #[error("a bulk operation brings no file: {0}")]
    NoFile(&'static str),
    /// It does not arrive.
    #[error("the file of a bulk operation cannot be downloaded: {0}")]
    Download(String),
    /// The disk does not take it.
    #[error("{path}: {source}; free the disk")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl<'a> BulkFetch<'a> {
    /// Of that shop.
    #[must_use]
    pub fn new(client: &'a AdminClient) -> Self {
        Self {
            client,
            file: None,
            delay: POLL,
            failures: 0,
        }
    }

    /// How long the next pause is.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Waits; longer from time to time.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.delay).await;
        self.delay = self.delay.mul_f64(1.5).min(LONGEST_POLL);
    }

    /// Looks at the operation, or downloads a part of its file to `path`, which goes on where it ended.
    ///
    /// # Errors
    /// No file comes.
    pub async fn step(&mut self, operation: &str, path: &Path) -> Result<BulkStep, BulkError> {
        let Some(file) = self.file.take() else {
            return self.look(operation).await;
        };
        let disk = |source| BulkError::Disk {
            path: path.to_owned(),
            source,
        };
        let mut target = folder::open_file(path).map_err(disk)?;
        let before = target.metadata().map_err(disk)?.len();
        let mut said = None;
        match bulk::download(&file, &mut target).await {
            Ok(bytes) if bytes < file.bytes => {
                said = Some(format!("{bytes} of {} bytes downloaded", file.bytes));
                if bytes > before {
                    self.failures = 0;
                }
            }
            Ok(_) if !tokio::task::block_in_place(|| bulk::is_whole(&file, path)).map_err(disk)? => {
                std::fs::remove_file(path).map_err(disk)?;
                self.fail("the file has other lines than Shopify counted").await?;
            }
            Ok(_) => {
                self.failures = 0;
                return Ok(BulkStep::Whole(file));
            }
            Err(DownloadError::Expired) => {
                let _ = std::fs::remove_file(path);
                return self.gone("its file has expired");
            }
            // What came is a success.
            Err(DownloadError::Again(_)) if target.metadata().map_err(disk)?.len() > before => self.failures = 0,
            Err(DownloadError::Again(why)) => self.fail(&why).await?,
            Err(DownloadError::Disk(error)) => return Err(disk(error)),
        }
        self.file = Some(file);
        Ok(BulkStep::Waiting(said))
    }

    /// Sees how far the operation is.
    async fn look(&mut self, operation: &str) -> Result<BulkStep, BulkError> {
        Ok(match bulk::poll(self.client, operation).await? {
            BulkState::Running(objects) => {
                self.pause().await;
                BulkStep::Waiting(Some(format!("Shopify has gathered {objects} objects")))
            }
            BulkState::Completed(None) => BulkStep::Empty,
            BulkState::Completed(Some(file)) => {
                (self.file, self.delay) = (Some(file), POLL);
                BulkStep::Waiting(None)
            }
            BulkState::Failed(why) => BulkStep::Failed(why),
            BulkState::Gone(why) => return self.gone(why),
        })
    }

    fn gone(&mut self, why: &'static str) -> Result<BulkStep, BulkError> {
        self.failures += 1;
        if self.failures > ATTEMPTS {
            return Err(BulkError::NoFile(why));
        }
        Ok(BulkStep::Gone)
    }

    async fn fail(&mut self, why: &str) -> Result<(), BulkError> {
        self.failures += 1;
        if self.failures > ATTEMPTS {
            return Err(BulkError::Download(why.to_owned()));
        }
        self.pause().await;
        Ok(())
    }
}
