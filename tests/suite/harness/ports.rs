//! Ports of 127.0.0.1 for servers that are started on a port that was chosen before.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

const FIRST: u16 = 10_000;

/// Claims of this process, kept until it ends.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port that no other test takes, also while the server on it is down.
///
/// It lies below the range that the kernel takes ports from for `bind` to port 0 and for clients. An abstract unix
/// socket of its name claims it among the processes of this machine, and vanishes with this process.
pub fn reserved_port() -> u16 {
    let span = first_ephemeral() - FIRST;
    let start = u16::try_from(std::process::id() * 61 % u32::from(span)).unwrap();
    let mut claims = CLAIMS.lock().unwrap();
    for offset in 0..span {
        let port = FIRST + (start + offset) % span;
        let name = SocketAddr::from_abstract_name(format!("orderstream-tests-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&name) else {
            continue;
        };
        // Where a server of this machine has it, the claim goes.
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            claims.push(claim);
            return port;
        }
    }
    panic!("no port from {FIRST} on is free");
}

/// The first port that the kernel gives out itself.
fn first_ephemeral() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    // Where it begins that low, some overlap is better than none to choose from.
    first.unwrap_or(32_768).max(FIRST + 1_000)
}

#[test]
fn no_port_is_reserved_twice() {
    let ports = std::collections::BTreeSet::from_iter((0..20).map(|_| reserved_port()));
    assert_eq!(ports.len(), 20);
    for port in ports {
        let name = SocketAddr::from_abstract_name(format!("orderstream-tests-port-{port}")).unwrap();
        assert!(UnixListener::bind_addr(&name).is_err(), "{port} could be claimed again");
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
