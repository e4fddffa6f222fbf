//! Where a command's operations are carried out: in this process, over the stores, or by the
//! process that owns the data folder, over its admin API. Requests and answers are the same.

use super::Failure;
use super::remote::Remote;
use super::stores::{self, Access, enter};
use crate::config::Config;
use crate::folder::{self, Folder};
use crate::operations::{Actor, Operation, Operations, OperationsError};

/// Whether a command reads the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Only the stream.
    Stream,
    /// Both, the warehouse where there is one.
    Both,
}

pub(super) enum Backend {
    /// In this process.
    Local {
        operations: Operations,
        /// Owned meanwhile, where a store is a file.
        _folder: Option<Folder>,
    },
    /// By the process that owns the data folder.
    Remote(Remote),
}

impl Backend {
    /// Opens the configured stores, or finds the process that owns them.
    pub(super) async fn open(config: &Config, command: &str, needs: Needs) -> Result<Self, Failure> {
        let reads_warehouse = needs == Needs::Both;
        let has_file = config.database.is_none() && config.data_dir.join(folder::WAREHOUSE).exists();
        let warehouse_is_file = reads_warehouse && has_file;
        if config.redis.is_none() {
            stores::stream_file(config)?;
        }
        let mut folder = None;
        if config.redis.is_none() || warehouse_is_file {
            match enter(config, command).await? {
                Access::Owned(owned) => folder = Some(owned),
                Access::Running(_, admin) => return Ok(Self::Remote(Remote::new(config, admin)?)),
            }
        }
        let stream = stores::stream(config, folder.as_ref())?;
        let warehouse = match reads_warehouse {
            true => stores::warehouse(config, folder.as_ref().filter(|_| warehouse_is_file))?,
            false => None,
        };
        let operations = Operations::new(stream, warehouse, &config.intake, Actor::Cli);
        Ok(Self::Local {
            operations: operations.with_spool(stores::spool(config)),
            _folder: folder,
        })
    }

    /// Carries out a request.
    pub(super) async fn call<O: Operation>(&self, request: O) -> Result<O::Answer, Failure> {
        match self {
            Self::Local { operations, .. } => Ok(request.run(operations).await?),
            Self::Remote(remote) => remote.call(&request).await,
        }
    }
}

impl From<OperationsError> for Failure {
    fn from(error: OperationsError) -> Self {
        match error {
            OperationsError::Stream(error) => error.into(),
            OperationsError::Warehouse(error) => error.into(),
            OperationsError::NoSuchCause | OperationsError::AmbiguousCause => Self::NotFound(error.to_string()),
            OperationsError::Invalid(text) => Self::Usage(format!("error: {text}\n")),
            OperationsError::NotFound(_) | OperationsError::NoWarehouse | OperationsError::CutShort => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}
