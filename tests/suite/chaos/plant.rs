//! What every scene has in common: processes that are killed and stalled, and what a plant must be able to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::clock::Clock;
use super::fault::{Fault, Planned, Target};
use super::oracle::Ends;
use crate::harness::ports::reserved_port;
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;
use crate::harness::tmpfs::Tmpfs;

/// All that runs between the clients and the warehouse, and what can be done to it.
pub trait Plant {
    fn title(&self) -> &'static str;

    /// Every kind of fault that can happen here.
    fn deck(&self) -> Vec<Fault>;

    /// Makes a fault happen and undoes it in the end.
    async fn suffer(&self, planned: &Planned);

    /// Where webhooks and batches go.
    async fn doors(&self) -> Vec<Door>;

    /// Where other programs write entries themselves.
    async fn redis(&self) -> Option<redis::Client>;

    /// Waits until nothing is on its way any more.
    async fn settles(&self);

    /// What is in the warehouse and in the dead letters.
    async fn ends(&self) -> Ends;

    /// Events that the service says are lost.
    async fn reported(&self) -> u64;

    /// How many events may be lost where that need not be what was reported.
    fn may_lose(&self, _reported: u64) -> Option<u64> {
        None
    }

    /// Signs that the faults bit, where that is not plain from the answers.
    async fn signs(&self) -> Vec<(&'static str, u64)>;
}

/// A public listener.
#[derive(Debug, Clone)]
pub struct Door {
    pub url: String,
    pub calm: Calm,
}

/// When a process suffers itself: odd while it does.
#[derive(Debug, Clone, Default)]
pub struct Calm(Arc<AtomicU64>);

impl Calm {
    pub fn epoch(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One process of ours, always on the same address.
pub struct Process {
    command: &'static str,
    settings: Settings,
    service: Mutex<Service>,
    calm: Calm,
}

impl Process {
    pub async fn start(command: &'static str, settings: Settings) -> Self {
        let port = reserved_port();
        let settings = settings.with("ORDERSTREAM_LISTEN_ADDR", &format!("127.0.0.1:{port}"));
        Self {
            command,
            service: Mutex::new(Service::start_unready(command, &settings).await),
            settings,
            calm: Calm::default(),
        }
    }

    pub async fn door(&self) -> Door {
        Door {
            url: self.service.lock().await.url(""),
            calm: self.calm.clone(),
        }
    }

    /// Has it look at the stream now.
    pub async fn looks(&self) {
        let service = self.service.lock().await;
        let looked = service.get(&service.admin_url("/health?fresh=true")).await;
        looked.unwrap();
    }

    /// One figure of `/metrics`; 0 where there is none of that name, or it is not known.
    pub async fn figure(&self, name: &str) -> u64 {
        let service = self.service.lock().await;
        let answer = service.get(&service.admin_url("/metrics")).await.unwrap();
        let text = answer.text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<i64>().unwrap().try_into().unwrap_or(0))
    }

    /// One of the faults of a process.
    pub async fn suffer(&self, fault: Fault, lasts: Duration) {
        match fault {
            Fault::Stop(_) => self.stopped(sleep(lasts)).await,
            Fault::Terminate(_) => self.without(Signal::SIGTERM, sleep(lasts)).await,
            _ => self.without(Signal::SIGKILL, sleep(lasts)).await,
        }
    }

    /// Does not run while something else is done.
    pub async fn stopped<T>(&self, something: impl Future<Output = T>) -> T {
        self.calm.turn();
        let service = self.service.lock().await;
        service.signal(Signal::SIGSTOP);
        let done = something.await;
        service.signal(Signal::SIGCONT);
        self.calm.turn();
        done
    }

    /// Ends it by that signal, and starts it again after something else was done.
    pub async fn without<T>(&self, signal: Signal, something: impl Future<Output = T>) -> T {
        self.calm.turn();
        let mut service = self.service.lock().await;
        service.signal(signal);
        let status = service.ended(PATIENCE).await;
        assert!(
            status.success() || signal == Signal::SIGKILL,
            "{} ended with {status} after {signal}",
            self.command
        );
        let done = something.await;
        *service = Service::start_unready(self.command, &self.settings).await;
        self.calm.turn();
        done
    }
}

/// One thing suffers one fault at a time, also where the schedule is late.
pub struct OneAtATime(BTreeMap<Target, Mutex<()>>);

impl OneAtATime {
    pub fn new() -> Self {
        Self(Target::ALL.map(|target| (target, Mutex::default())).into())
    }

    pub async fn turn(&self, target: Target) -> MutexGuard<'_, ()> {
        self.0[&target].lock().await
    }
}

/// The wall clock is wrong for a while.
pub async fn clock_suffers(clock: Option<&Clock>, fault: Fault, lasts: Duration) {
    let clock = clock.expect("not in the deck without one");
    if let Fault::ClockJumps(seconds) = fault {
        clock.jump(seconds);
    }
    sleep(lasts).await;
    clock.jump(0);
}

/// There is no room for a single page more for a while.
pub async fn disk_suffers(disk: Option<&Tmpfs>, lasts: Duration) {
    let disk = disk.expect("not in the deck without one");
    disk.fill();
    sleep(lasts).await;
    disk.free();
}
