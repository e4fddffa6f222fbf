//! Ways between servers that can be cut, as where a network falls apart: the others, and whoever is on their side, do not
//! reach a server that its clients still reach.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// A relay before a port of each server; what comes from 127.0.0.1 always passes. On a thread of their own, since a test
/// may block its own. They live as long as the value.
pub struct Relays {
    ports: Vec<u16>,
    cut_off: watch::Sender<Option<usize>>,
    _end: oneshot::Sender<()>,
}

impl Relays {
    /// Before these ports of 127.0.0.1.
    pub fn before(targets: Vec<u16>) -> Self {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<_> = targets.iter().map(|_| bind()).collect();
        let ports = listeners.iter().map(|one| one.local_addr().unwrap().port()).collect();
        let (cut_off, seen) = watch::channel(None);
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let mut relays = JoinSet::new();
                for (place, (listener, target)) in listeners.into_iter().zip(targets).enumerate() {
                    listener.set_nonblocking(true).unwrap();
                    let listener = TcpListener::from_std(listener).unwrap();
                    relays.spawn(relay(listener, place, target, seen.clone()));
                }
                let _ = ended.await;
            });
        });
        Self {
            ports,
            cut_off,
            _end: end,
        }
    }

    /// The port at which others reach the server at that place.
    pub fn port(&self, place: usize) -> u16 {
        self.ports[place]
    }

    /// The line of a server's configuration by which relays know it as the one at that place. Places beyond those of the
    /// relays are on the side of the others.
    pub fn source(place: usize) -> String {
        format!("bind-source-addr 127.0.1.{}", place + 1)
    }

    /// [`Self::source`] for a redis-server: its protected mode would refuse others' addresses.
    pub fn server(place: usize) -> [String; 3] {
        let [bind, mode] = ["bind 127.0.0.1 -::1", "protected-mode no"].map(str::to_owned);
        [Self::source(place), bind, mode]
    }

    /// Nothing passes between that server and others, until this is called with `None`.
    pub fn cut_off(&self, server: Option<usize>) {
        self.cut_off.send_replace(server);
    }

    /// The one that is cut off.
    pub fn is_cut_off(&self, place: usize) -> bool {
        *self.cut_off.borrow() == Some(place)
    }
}

async fn relay(listener: TcpListener, place: usize, target: u16, cut_off: watch::Receiver<Option<usize>>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, from) = listener.accept().await.unwrap();
        while connections.try_join_next().is_some() {}
        let way = Way {
            from: caller(from),
            to: place,
            cut_off: cut_off.clone(),
        };
        connections.spawn(async move {
            // Where the server is away, the caller sees its connection closed.
            let server = TcpStream::connect(("127.0.0.1", target)).await?;
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            // Whichever side ends first, both are closed.
            tokio::select! {
                ended = way.clone().pump(client_read, server_write) => ended,
                ended = way.clone().pump(server_read, client_write) => ended,
            }
        });
    }
}

/// The place of a server that calls; `None` for a client.
fn caller(from: SocketAddr) -> Option<usize> {
    match from.ip() {
        IpAddr::V4(address) if address.octets()[2] == 1 => Some(usize::from(address.octets()[3]) - 1),
        _ => None,
    }
}

#[derive(Clone)]
struct Way {
    from: Option<usize>,
    to: usize,
    cut_off: watch::Receiver<Option<usize>>,
}

impl Way {
    async fn pump(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            if let Some(caller) = self.from {
                let ends = [Some(caller), Some(self.to)];
                // Packets are lost: neither end sees its connection closed.
                let passes = |cut_off: &Option<usize>| cut_off.is_none() || !ends.contains(cut_off);
                let _ = self.cut_off.wait_for(passes).await;
            }
            to.write_all(&piece[..read]).await?;
        }
    }
}
