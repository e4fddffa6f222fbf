//! Local mode: secrets that are made once and kept in the data folder, so that a first order needs
//! no configuration.
//!
//! Used only while no secret is configured and every address is on loopback. Invariant: the file is
//! complete from the moment it exists, has mode 0600, and is never written again.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString as Secret;
use serde::Deserialize;

use super::model::Config;
use crate::folder;

const FILE: &str = "local-secrets.toml";
const HEADER: &str = "# Made by orderstream for local use. Delete this file and restart to get new secrets.\n";

/// What local mode works with.
#[derive(Debug, Clone)]
pub struct LocalSecrets {
    /// Signs webhooks.
    pub shopify_secret: Secret,
    /// Bearer token of `/events/batch`.
    pub api_token: Secret,
    /// Bearer token of the admin API.
    pub admin_token: Secret,
}

/// Why there are no local secrets.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The data folder does not do.
    #[error("local secrets at {path}: {source}; make the folder writable or set ORDERSTREAM_DATA_DIR")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users may have read them.
    #[error("{0} is open to other users: delete it, or run `chmod 600` on it")]
    Exposed(PathBuf),
    /// It was edited.
    #[error("{0} is damaged: delete it, and new secrets are made at the next start")]
    Damaged(PathBuf),
}

#[derive(Deserialize)]
struct Stored {
    shopify_secret: String,
    api_token: String,
    admin_token: String,
}

impl Config {
    /// Whether this process works with local secrets: none configured, and every address on
    /// loopback.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.purpose.ingests() && self.auth_is_unset() && self.first_exposed_address().is_none()
    }

    /// Takes local secrets where local mode holds; answers them for the greeting.
    ///
    /// # Errors
    /// The data folder is not usable.
    pub fn adopt_local(&mut self) -> Result<Option<LocalSecrets>, LocalError> {
        if !self.is_local() {
            return Ok(None);
        }
        let local = ensure(&self.data_dir)?;
        self.auth.shopify_secrets = vec![local.shopify_secret.clone()];
        self.auth.api_tokens = vec![local.api_token.clone()];
        self.admin.token = Some(local.admin_token.clone());
        Ok(Some(local))
    }
}

/// The secrets of that data folder, made if need be. Safe against several processes at once: one
/// wins, all read it.
///
/// # Errors
/// See [`LocalError`].
pub fn ensure(data_dir: &Path) -> Result<LocalSecrets, LocalError> {
    if let Some(found) = find(data_dir)? {
        return Ok(found);
    }
    let path = data_dir.join(FILE);
    make(data_dir, &path).map_err(|source| LocalError::Io {
        path: path.clone(),
        source,
    })?;
    find(data_dir)?.ok_or(LocalError::Damaged(path))
}

/// The secrets of that data folder, if there are any.
///
/// # Errors
/// See [`LocalError`].
pub fn find(data_dir: &Path) -> Result<Option<LocalSecrets>, LocalError> {
    let path = data_dir.join(FILE);
    let mode = match fs::metadata(&path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LocalError::Io { path, source }),
    };
    if mode & 0o077 != 0 {
        return Err(LocalError::Exposed(path));
    }
    let text = fs::read_to_string(&path).map_err(|source| LocalError::Io {
        path: path.clone(),
        source,
    })?;
    let stored: Stored = toml::from_str(&text).map_err(|_| LocalError::Damaged(path))?;
    Ok(Some(LocalSecrets {
        shopify_secret: stored.shopify_secret.into(),
        api_token: stored.api_token.into(),
        admin_token: stored.admin_token.into(),
    }))
}

/// 32 random bytes in hex.
pub(crate) fn fresh_secret() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Writes beside the final name and links it there, which fails where another process was first:
/// that one's stand.
fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    folder::make(data_dir)?;
    let draft = data_dir.join(format!("{FILE}.{}", uuid::Uuid::new_v4()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let line = |name: &str| format!("{name} = \"{}\"\n", fresh_secret());
    let secrets = ["shopify_secret", "api_token", "admin_token"].map(line).concat();
    let linked = file
        .write_all(format!("{HEADER}{secrets}").as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path()).unwrap().is_none());
        let first = ensure(&dir.path().join("data")).unwrap();
        let again = ensure(&dir.path().join("data")).unwrap();
        assert_eq!(
            first.shopify_secret.expose_secret(),
            again.shopify_secret.expose_secret()
        );
        assert_eq!(first.shopify_secret.expose_secret().len(), 64);
        assert_ne!(first.shopify_secret.expose_secret(), first.api_token.expose_secret());
        let files: Vec<_> = fs::read_dir(dir.path().join("data"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn one_process_wins() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| ensure(dir.path()).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(
            all.iter()
                .all(|local| local.admin_token.expose_secret() == all[0].admin_token.expose_secret())
        );
    }

    #[test]
    fn exposed_or_damaged_ones_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(find(dir.path()), Err(LocalError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "shopify_secret = 1").unwrap();
        assert!(matches!(ensure(dir.path()), Err(LocalError::Damaged(_))));
    }
}
