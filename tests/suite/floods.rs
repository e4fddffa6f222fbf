//! Floods of slow and silent connections over real sockets: whoever sends what is good is served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bodies::big_order;
use crate::harness::eventually;
use crate::harness::ingest::{Service, Settings, order, signed, webhook};
use crate::harness::redis::RedisServer;
use crate::harness::service::{Service as Process, Settings as Variables};
use crate::harness::wire::{Wire, get, request};

const LONG: Duration = Duration::from_secs(90);
/// Of head and body where hostile connections are not to come to their end.
const NEVER: Duration = Duration::from_secs(600);
/// Far below the limits of head and body, which are what a newcomer would have to wait for.
const PROMPT: Duration = Duration::from_secs(60);
/// The same where they are those of the program, which no setting changes.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a hostile connection does.
#[derive(Clone, Copy)]
enum Hostile {
    /// Sends nothing.
    Silent,
    /// Sends a head, a byte at a time.
    SlowHead,
    /// Claims a signature and sends its body a byte at a time.
    SlowBody,
    /// Asks once and keeps the connection.
    Idle,
    /// Asks again and again and reads no answer.
    Deaf,
}

/// Connections that do so, each opened again as soon as it is closed, until it is dropped.
fn flood(addr: SocketAddr, connections: usize, kinds: &'static [Hostile]) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    for number in 0..connections {
        let kind = kinds[number % kinds.len()];
        flood.spawn(async move {
            loop {
                if let Ok(mut socket) = TcpStream::connect(addr).await {
                    // Cut off, most likely; it comes again.
                    let _ = attack(&mut socket, kind).await;
                }
                // Of the machine's turns the others get some, too.
                tokio::task::yield_now().await;
            }
        });
    }
    flood
}

async fn attack(socket: &mut TcpStream, kind: Hostile) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    match kind {
        Hostile::Silent => {}
        Hostile::Idle => socket.write_all(&request("GET /livez", &[], b"")).await?,
        Hostile::Deaf => loop {
            socket.write_all(&request("GET /health", &[], b"")).await?;
        },
        Hostile::SlowHead => {
            for byte in b"POST /webhooks/orders HTTP/1.1\r\nhost: x\r\n".iter().cycle() {
                socket.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Hostile::SlowBody => {
            socket.write_all(&announced(64 * 1024)).await?;
            loop {
                socket.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    while socket.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// The head of a webhook with a well-formed signature, of a body of so many bytes.
fn announced(bytes: usize) -> Vec<u8> {
    let signature = "hMTq0K2x7oyOjoBwGYeTj5oxfnaVYXzbanUG9aajpKI=";
    format!("POST /webhooks/orders HTTP/1.1\r\nhost: x\r\nx-shopify-hmac-sha256: {signature}\r\ncontent-length: {bytes}\r\n\r\n")
        .into_bytes()
}

/// Good webhooks, each on a connection of its own. Few have to come again.
async fn all_are_taken(service: &Service, count: u64) {
    let mut again = 0;
    for number in 0..count {
        let bytes = webhook(&format!("w-{number}"), &order(number));
        again += is_taken(service, &bytes, &["stream_unavailable"]).await;
    }
    assert!(again <= count, "{count} webhooks came again {again} times");
}

/// One good webhook. On a busy machine the store may confirm it too late, or its connection wait so long for its first
/// byte that it gives way: then it comes again, as Shopify does, and so after these refusals. How often it did is
/// returned.
async fn is_taken(service: &Service, bytes: &[u8], refusals: &[&str]) -> u64 {
    let mut again = 0;
    let taken = async {
        loop {
            let mut wire = Wire::connect(service.public).await;
            wire.send_until_refused(bytes).await;
            if let Some(answer) = wire.answer().await {
                if answer.status == 200 {
                    return;
                }
                let code = answer.json()["code"].take();
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(refusals.iter().any(|refusal| code == *refusal), "{answer:?}");
            }
            again += 1;
        }
    };
    let taken = tokio::time::timeout(PROMPT, taken).await;
    taken.expect("a good webhook is not taken");
    again
}

async fn served_during(kinds: &'static [Hostile]) {
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.public.max_connections = 200;
    settings.public.body_timeout = NEVER;
    settings.public.header_timeout = NEVER;
    let service = Service::start_with(settings).await.ready().await;
    let flood = flood(service.public, 400, kinds);
    eventually("all slots are taken", LONG, async || {
        (service.metrics.connections.get() >= 200).then_some(())
    })
    .await;
    all_are_taken(&service, 25).await;
    assert!(service.metrics.connections.get() <= 200, "the cap does not hold");
    drop(flood);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_connections_keep_nobody_out() {
    served_during(&[Hostile::Silent, Hostile::SlowHead]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_and_idle_connections_keep_nobody_out() {
    served_during(&[Hostile::SlowBody, Hostile::Idle, Hostile::Deaf]).await;
}

#[tokio::test]
async fn silent_connections_do_not_delay_the_probes_of_the_private_listener() {
    let redis = RedisServer::start().await;
    let service = Service::start(&redis).await.ready().await;
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(TcpStream::connect(service.admin).await.unwrap());
    }
    for _ in 0..5 {
        let answer = tokio::time::timeout(AT_ONCE, get(service.admin, "/livez")).await;
        assert_eq!(answer.expect("it waits for the silent ones").status, 200);
    }
    drop(silent);
    service.stop().await;
}

#[tokio::test]
async fn unsigned_bodies_that_stall_leave_room_for_good_ones() {
    const LARGE: usize = 1024 * 1024;
    let redis = RedisServer::start().await;
    let mut settings = Settings::new(&redis);
    settings.intake.body_limit = LARGE;
    settings.intake.bytes_in_flight = 8 * LARGE;
    settings.public.body_timeout = LONG;
    let service = Service::start_with(settings).await.ready().await;
    let mut stalled = Vec::new();
    for _ in 0..12 {
        let mut wire = Wire::connect(service.public).await;
        // A refusal comes before all of it is sent, where there is no room.
        wire.send_until_refused(&[announced(LARGE), vec![b'x'; LARGE - 1]].concat())
            .await;
        stalled.push(wire);
        assert!(
            service.metrics.body_bytes.get() <= 4 * LARGE as i64 + 16 * 1024,
            "more than half of the budget is unverified"
        );
    }
    all_are_taken(&service, 10).await;
    let large = [order(1000), vec![b' '; LARGE / 2]].concat();
    // Bodies that are still on their way, on a busy machine, give no room.
    let large = signed("orders/create", "large", &large);
    is_taken(&service, &large, &["stream_unavailable", "overloaded"]).await;
    eventually("their shares are given back", LONG, async || {
        (service.metrics.body_bytes.get() == 0).then_some(())
    })
    .await;
    let mut answers = Vec::new();
    for mut wire in stalled {
        let answer = wire.answer().await.expect("closed without an answer");
        assert!([408, 503].contains(&answer.status), "{answer:?}");
        answers.push(answer.status);
    }
    // The first three had room. Who of them is answered 503 gave it to another, sooner than its time was over.
    assert!(answers[..3].contains(&503), "{answers:?}");
    service.stop().await;
}

/// Bodies in memory, what is made of them, and what their conversion takes are bounded all together, and what was freed
/// goes back: no allocator keeps the large blocks.
#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_to_the_budget_whatever_comes_at_once() {
    const BUDGET: u64 = 64 << 20;
    let redis = RedisServer::start().await;
    let settings = Variables::new(&redis.url(), "postgres://nobody@127.0.0.1:1/none")
        .with("ORDERSTREAM_BYTES_IN_FLIGHT", "64MiB")
        .with("ORDERSTREAM_BATCH_BODY_LIMIT", "5MiB");
    let service = Process::start("serve", &settings).await;
    let order = String::from_utf8(big_order(18_000)).unwrap();
    let body = order.replace("Article", &"Article".repeat(20)).into_bytes();
    assert!(body.len() > 4 << 20 && body.len() < 5 << 20, "{}", body.len());
    let deliveries = (0..80).map(|number| {
        let (service, body) = (&service, &body);
        async move {
            let answer = service.deliver("orders/create", &format!("w-{number}"), body).await;
            // Cut off while it was still sent, or answered.
            answer.map(|answer| answer.status().as_u16())
        }
    });
    let answers = futures_util::future::join_all(deliveries).await;
    let taken = answers.iter().filter(|answer| matches!(answer, Ok(200))).count();
    // A busy machine may take none of so many in time.
    eventually("one is taken", LONG, async || {
        let answer = service.deliver("orders/create", "one more", &body).await;
        answer.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
    let peak = memory(&service, "VmHWM:");
    assert!(
        peak <= BUDGET * 13 / 10 + (64 << 20),
        "{peak} bytes, with {taken} taken"
    );
    // The pages of the binary, which VmRSS counts too, grow with it.
    eventually("most of it goes back", LONG, async || {
        (memory(&service, "RssAnon:") <= 32 << 20).then_some(())
    })
    .await;
}

/// Bytes of a line of the process's status.
fn memory(service: &Process, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
