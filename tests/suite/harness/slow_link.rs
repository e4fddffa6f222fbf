//! A slow way to a Redis server: a unix socket in front of its own.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::redis::RedisServer;

/// Bytes forwarded at once; small, so that what a moment's pause comes to is small.
const CHUNK: usize = 16 << 10;

/// Lives as long as the value.
pub struct SlowLink {
    folder: TempDir,
    _accepting: JoinSet<()>,
}

impl SlowLink {
    /// Each piece of an answer comes later by `delay`.
    pub fn late(server: &RedisServer, delay: Duration) -> Self {
        Self::to(server, move |_| delay)
    }

    /// Answers reach each connection at no more than `rate` bytes a second.
    pub fn narrow(server: &RedisServer, rate: u32) -> Self {
        Self::to(server, move |bytes| {
            Duration::from_secs(1) * u32::try_from(bytes).unwrap() / rate
        })
    }

    fn to(server: &RedisServer, pause: impl Fn(usize) -> Duration + Copy + Send + Sync + 'static) -> Self {
        let folder = tempfile::Builder::new().prefix("link-").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("redis.sock")).unwrap();
        let target = server.url().trim_start_matches("unix://").to_owned();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&target).await.unwrap();
                links.spawn(forward(client, server, pause));
            }
        });
        Self {
            folder,
            _accepting: accepting,
        }
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }
}

/// Until either end closes.
async fn forward(client: UnixStream, server: UnixStream, pause: impl Fn(usize) -> Duration) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        let mut piece = vec![0; CHUNK];
        while let Ok(read @ 1..) = from_server.read(&mut piece).await {
            tokio::time::sleep(pause(read)).await;
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
