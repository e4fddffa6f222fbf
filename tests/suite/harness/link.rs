//! A slow way to a Redis server: a socket whose replies come at a bounded rate.

use std::time::Duration;

use orderstream::config::RedisConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::redis::RedisServer;

/// Bytes forwarded at once; small, so that what a moment's pause comes to is small.
const CHUNK: usize = 16 << 10;

pub struct SlowLink {
    folder: TempDir,
    _accepting: JoinSet<()>,
}

impl SlowLink {
    /// Replies of that server reach each connection at no more than `rate` bytes a second.
    pub fn to(server: &RedisServer, rate: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("link-").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("redis.sock")).unwrap();
        let target = server.url().trim_start_matches("unix://").to_owned();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&target).await.unwrap();
                links.spawn(forward(client, server, rate));
            }
        });
        Self {
            folder,
            _accepting: accepting,
        }
    }

    /// The same configuration, by this way.
    pub fn by_way(&self, config: RedisConfig) -> RedisConfig {
        let url = format!("unix://{}", self.folder.path().join("redis.sock").display()).into();
        RedisConfig { url, ..config }
    }
}

/// Until either end closes.
async fn forward(client: UnixStream, server: UnixStream, rate: usize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let replies = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
            tokio::time::sleep(Duration::from_secs(1) * u32::try_from(length).unwrap() / u32::try_from(rate).unwrap())
                .await;
            if to_client.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = replies => {}
    }
}
