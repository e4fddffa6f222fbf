//! The data folder, for a command that wants to look into it.
//!
//! A command takes the folder like any owner, for as long as it looks; where a process runs on it, that one is asked.

use std::net::SocketAddr;

use super::Failure;
use crate::config::Config;
use crate::folder::{Folder, FolderError, Owner};

/// How a command gets at what is in the folder.
pub(super) enum Access {
    /// It is ours: nobody runs on it.
    Ours(Folder),
    /// It belongs to a process that can be asked there.
    Theirs(Box<Owner>, SocketAddr),
}

/// Takes the folder, or finds who has it.
///
/// # Errors
/// It is not usable, or somebody has it and cannot be asked (yet).
pub(super) async fn enter(config: &Config, command: &str) -> Result<Access, Failure> {
    match Folder::own(&config.data_dir, command).await {
        Ok(folder) => Ok(Access::Ours(folder)),
        Err(FolderError::Owned {
            owner: Some(owner),
            path,
        }) => match owner.admin {
            Some(admin) => Ok(Access::Theirs(owner, admin)),
            None => Err(FolderError::Owned {
                owner: Some(owner),
                path,
            }
            .into()),
        },
        Err(error) => Err(error.into()),
    }
}
