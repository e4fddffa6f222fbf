//! HTTP by hand: exactly the bytes a test wants on the wire, and the answer as it came.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far beyond every limit in a test; reaching it is a failure.
const LONG: Duration = Duration::from_secs(30);

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One connection.
pub struct Wire {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self {
            socket: TcpStream::connect(addr).await.unwrap(),
            unread: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Sends as much as the peer takes: it may refuse and close in between.
    pub async fn send_until_refused(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// The next answer; `None` where the peer closed without one.
    pub async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(LONG, self.read_answer())
            .await
            .expect("no answer, and the connection is open")
    }

    /// Waits until the peer closes; what it still sends is returned.
    pub async fn rest(&mut self) -> Vec<u8> {
        let reading = async { while self.fill().await {} };
        tokio::time::timeout(LONG, reading)
            .await
            .expect("the connection stays open");
        std::mem::take(&mut self.unread)
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                assert!(self.unread.is_empty(), "half a head");
                return None;
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let mut answer = Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: Vec::new(),
        };
        let length: usize = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            assert!(self.fill().await, "half a body");
        }
        answer.body = self.unread.drain(..length).collect();
        Some(answer)
    }

    async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = self.socket.read(&mut piece).await.unwrap_or(0);
        self.unread.extend_from_slice(&piece[..read]);
        read > 0
    }
}

/// Sends one request on a connection of its own.
pub async fn ask(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut wire = Wire::connect(addr).await;
    wire.send_until_refused(request).await;
    wire.answer().await.expect("closed without an answer")
}

/// The bytes of a request with a body of known length.
pub fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &request(&format!("GET {path}"), &[], b"")).await
}
