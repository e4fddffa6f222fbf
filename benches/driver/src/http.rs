//! One kept-alive connection, as cheap as it gets: what the generator burns, the measured side cannot have.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bytes::Buf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Connection {
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            answer: Vec::new(),
        })
    }

    /// Sends one request and reads its answer; answers the status.
    pub async fn exchange(&mut self, head: &[u8], shared: &[u8], rest: &[u8]) -> anyhow::Result<u16> {
        let mut request = Buf::chain(head, shared).chain(rest);
        self.socket.write_all_buf(&mut request).await?;
        self.answer.clear();
        loop {
            let read = self.socket.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "the connection was closed before the answer");
            if let Some((status, _)) = whole(&self.answer)? {
                return Ok(status);
            }
        }
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        let start = whole(&self.answer)
            .ok()
            .flatten()
            .map_or(self.answer.len(), |(_, start)| start);
        &self.answer[start..]
    }
}

/// Status and start of the body, once the answer is there as a whole.
fn whole(answer: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(answer)? else {
        return Ok(None);
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .context("an answer without Content-Length")?;
    let length: usize = std::str::from_utf8(length.value)?.parse()?;
    let Some(status) = response.code else {
        bail!("an answer without a status")
    };
    Ok((answer.len() >= start + length).then_some((status, start)))
}
