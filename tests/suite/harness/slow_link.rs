//! A unix socket in front of a server's, over which every piece of an answer takes its time.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::TaskTracker;

pub struct SlowLink {
    folder: TempDir,
}

impl SlowLink {
    /// In front of that `unix://` URL; each piece of an answer comes later by `delay`.
    pub async fn to(url: &str, delay: Duration) -> Self {
        let server = url.strip_prefix("unix://").unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("link.sock")).unwrap();
        let links = TaskTracker::new();
        // They end with the test's runtime.
        links.clone().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                links.spawn(relay(client, server, delay));
            }
        });
        Self { folder }
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("link.sock").display())
    }
}

/// Ends with either side.
async fn relay(client: UnixStream, server: UnixStream, delay: Duration) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut piece).await {
            tokio::time::sleep(delay).await;
            if to_client.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}
