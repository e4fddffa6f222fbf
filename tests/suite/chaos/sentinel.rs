//! A primary and its replica, behind three sentinels.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::fault::{Fault, Target};
use super::replicas::{Primaries, dies_before_its_replica_has_all, one_suffers};
use crate::harness::redis::RedisServer;
use crate::harness::sentinels::Sentinels;

impl Primaries for Sentinels {
    const TITLE: &str = "Redis Sentinel and PostgreSQL";
    const LOGS: &[&str] = &["orders_stream"];
    const PARTITIONS: Option<&str> = None;

    async fn faults(&self) -> Vec<Fault> {
        vec![Fault::Stop(Target::Sentinels)]
    }

    fn url(&self) -> String {
        format!("redis+sentinel://{}", self.hosts())
    }

    async fn holder(&self, _key: &str) -> &RedisServer {
        &self.servers[self.primary().await]
    }

    async fn suffer(&mut self, fault: Fault, lasts: Duration, key: &str) {
        let primary = self.primary().await;
        match fault {
            Fault::Stop(Target::Sentinels) => {
                let stopped = &self.sentinels[1..];
                stopped.iter().for_each(|sentinel| sentinel.signal(Signal::SIGSTOP));
                sleep(lasts).await;
                stopped.iter().for_each(|sentinel| sentinel.signal(Signal::SIGCONT));
            }
            Fault::FailsOver => {
                self.fail_over().await;
            }
            Fault::Away(_) => {
                self.servers[primary].kill();
                self.name(1 - primary).await;
                self.servers[primary].restart().await;
            }
            Fault::ReplicaLags => {
                dies_before_its_replica_has_all(&mut self.servers, primary, 1 - primary, lasts).await;
                self.name(1 - primary).await;
                self.servers[primary].restart().await;
            }
            Fault::CutOff => {
                self.cut_off().await;
                sleep(lasts).await;
                self.join();
            }
            _ => assert!(
                one_suffers(&mut self.servers[primary], fault, lasts, key).await,
                "{fault}"
            ),
        }
        self.is_whole().await;
    }
}
