//! A proxy between the service and a real server that answers in the server's place, slowly, or not at all.
//!
//! For Redis it takes requests and replies apart, so that every fault hits whole commands: an error is the answer to one
//! command, and a reply that is dropped belongs to a command that was carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    Pass,
    /// Commands that this refusal concerns are answered with it and never reach the server.
    Refuse(Refusal),
    /// What was asked is done; the answer is dropped and the connection cut.
    DropReplies,
    /// Answers come late by so much.
    Slow(Duration),
    /// Connections stay open and nothing passes.
    Silent,
    /// Reads do not wait, as behind some proxies.
    NeverBlocks,
}

/// An error of Redis, and the commands that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub line: &'static str,
    concerns: Concerns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concerns {
    Everything,
    Writes,
    ScriptsByDigest,
}

const WRITES: [&str; 12] = [
    "EVALSHA",
    "EVAL",
    "XADD",
    "XACK",
    "XGROUP",
    "XREADGROUP",
    "XTRIM",
    "XDEL",
    "SET",
    "HDEL",
    "HSET",
    "HSETNX",
];

impl Refusal {
    const fn of(concerns: Concerns, line: &'static str) -> Self {
        Self { line, concerns }
    }

    fn concerns(self, command: &str) -> bool {
        match self.concerns {
            Concerns::Everything => true,
            Concerns::Writes => WRITES.contains(&command),
            Concerns::ScriptsByDigest => command == "EVALSHA",
        }
    }
}

/// Every refusal that DESIGN names.
pub const REFUSALS: [Refusal; 10] = {
    use Concerns::{Everything, ScriptsByDigest, Writes};
    [
        Refusal::of(Everything, "LOADING Redis is loading the dataset in memory"),
        Refusal::of(
            Everything,
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
        ),
        Refusal::of(Everything, "MASTERDOWN Link with MASTER is down."),
        Refusal::of(Everything, "CLUSTERDOWN Hash slot not served"),
        Refusal::of(Everything, "TRYAGAIN Multiple keys request during rehashing of slot"),
        Refusal::of(Writes, "READONLY You can't write against a read only replica."),
        Refusal::of(Writes, "OOM command not allowed when used memory > 'maxmemory'."),
        Refusal::of(
            Writes,
            "MISCONF Errors writing to the AOF file: No space left on device",
        ),
        Refusal::of(Writes, "NOREPLICAS Not enough good replicas to write."),
        Refusal::of(ScriptsByDigest, "NOSCRIPT No matching script. Please use EVAL."),
    ]
};

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    /// Anything; faults hit pieces of the byte stream.
    Bytes,
}

/// Listens on a free port of 127.0.0.1 until it is dropped.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    hits: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of a server's unix socket.
    pub async fn before(server: PathBuf, dialect: Dialect) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, current) = watch::channel(Mode::Pass);
        let hits = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let way = Way {
            mode: current,
            hits: Arc::clone(&hits),
        };
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                // Where the server is away, the client sees its connection closed.
                let Ok(server) = UnixStream::connect(&server).await else {
                    continue;
                };
                let way = way.clone();
                connections.spawn(async move {
                    // However a connection ends, it ends.
                    let _ = match dialect {
                        Dialect::Redis => way.commands(client, server).await,
                        Dialect::Bytes => way.bytes(client, server).await,
                    };
                });
            }
        });
        Self {
            port,
            mode,
            hits,
            _tasks: tasks,
        }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Commands, or pieces, that met a fault so far.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Way {
    mode: watch::Receiver<Mode>,
    hits: Arc<AtomicU64>,
}

impl Way {
    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits as long as nothing may pass.
    async fn open(&mut self) {
        if self.mode() == Mode::Silent {
            self.hit();
            // The sender lives as long as the proxy.
            let _ = self.mode.wait_for(|mode| *mode != Mode::Silent).await;
        }
    }

    /// One command after the other, each with its reply.
    async fn commands(mut self, mut client: TcpStream, mut server: UnixStream) -> std::io::Result<()> {
        let mut asked = Vec::new();
        let mut answered = Vec::new();
        while let Some(command) = next(&mut client, &mut asked).await? {
            self.open().await;
            if let Mode::Refuse(refusal) = self.mode()
                && refusal.concerns(&name(&command))
            {
                self.hit();
                client.write_all(format!("-{}\r\n", refusal.line).as_bytes()).await?;
                continue;
            }
            let command = match self.mode() {
                Mode::NeverBlocks => without_block(command),
                _ => command,
            };
            server.write_all(&command).await?;
            let Some(reply) = next(&mut server, &mut answered).await? else {
                return Ok(());
            };
            self.open().await;
            match self.mode() {
                Mode::DropReplies => {
                    self.hit();
                    return Ok(());
                }
                Mode::Slow(delay) => {
                    self.hit();
                    tokio::time::sleep(delay).await;
                }
                Mode::Pass | Mode::Refuse(_) | Mode::Silent | Mode::NeverBlocks => {}
            }
            client.write_all(&reply).await?;
        }
        Ok(())
    }

    async fn bytes(self, client: TcpStream, server: UnixStream) -> std::io::Result<()> {
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        // Whichever side ends first, both are closed.
        tokio::select! {
            ended = self.clone().pump(client_read, server_write, false) => ended,
            ended = self.clone().pump(server_read, client_write, true) => ended,
        }
    }

    async fn pump(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        is_answer: bool,
    ) -> std::io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            self.open().await;
            match self.mode() {
                Mode::DropReplies if is_answer => {
                    self.hit();
                    return Ok(());
                }
                Mode::Slow(delay) if is_answer => {
                    self.hit();
                    tokio::time::sleep(delay).await;
                }
                _ => {}
            }
            to.write_all(&piece[..read]).await?;
        }
    }
}

/// The next whole value; `None` at the end.
async fn next(from: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = value_end(unread) {
            return Ok(Some(unread.drain(..end).collect()));
        }
        if from.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

/// Where the first value of RESP2 or RESP3 ends; `None` while it is not whole. A command is an array like any other.
fn value_end(bytes: &[u8]) -> Option<usize> {
    let line_end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let size = || -> i64 {
        std::str::from_utf8(&bytes[1..line_end - 2])
            .unwrap_or_default()
            .parse()
            .unwrap_or(0)
    };
    let values = match bytes[0] {
        b'$' | b'=' | b'!' if size() >= 0 => {
            let end = line_end + usize::try_from(size()).ok()? + 2;
            return (bytes.len() >= end).then_some(end);
        }
        b'*' | b'~' | b'>' => size().max(0),
        b'%' => size() * 2,
        _ => 0,
    };
    (0..values).try_fold(line_end, |at, _| Some(at + value_end(&bytes[at..])?))
}

/// The command without BLOCK and its milliseconds, where it has them and no argument of several lines.
fn without_block(command: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&command);
    let Some((before, after)) = text.split_once("$5\r\nBLOCK\r\n") else {
        return command;
    };
    let (count, names) = before.split_once("\r\n").unwrap();
    let count = count[1..].parse::<usize>().unwrap() - 2;
    let rest = after.splitn(3, "\r\n").nth(2).unwrap();
    format!("*{count}\r\n{names}{rest}").into_bytes()
}

/// The command's name in upper case.
fn name(command: &[u8]) -> String {
    let line = command.split(|byte| *byte == b'\n').nth(2).unwrap_or_default();
    String::from_utf8_lossy(line.trim_ascii_end()).to_ascii_uppercase()
}

#[test]
fn values_end_where_they_end() {
    for whole in [
        &b"+OK\r\n"[..],
        b":7\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$3\r\na\r\n\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+a\r\n#t\r\n",
        b"-ERR no\r\n",
    ] {
        let twice = whole.repeat(2);
        assert_eq!(value_end(&twice), Some(whole.len()), "{}", whole.escape_ascii());
        for cut in 0..whole.len() {
            assert_eq!(value_end(&whole[..cut]), None, "{} {cut}", whole.escape_ascii());
        }
    }
    let read = b"*5\r\n$1\r\na\r\n$5\r\nBLOCK\r\n$2\r\n10\r\n$1\r\nb\r\n$1\r\nc\r\n";
    let without = b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
    assert_eq!(without_block(read.to_vec()), without);
    assert_eq!(name(b"*2\r\n$4\r\nxadd\r\n$1\r\na\r\n"), "XADD");
}
