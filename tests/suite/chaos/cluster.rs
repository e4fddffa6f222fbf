//! A Redis Cluster of three primaries with a replica each.

use std::time::Duration;

use tokio::time::sleep;

use super::fault::Fault;
use super::replicas::{Primaries, dies_before_its_replica_has_all, one_suffers};
use crate::harness::cluster::Cluster;
use crate::harness::redis::RedisServer;

impl Primaries for Cluster {
    const TITLE: &str = "Redis Cluster and PostgreSQL";
    const LOGS: &[&str] = &[
        "orders_stream",
        "{orders_stream:1.204}",
        "{orders_stream:2.440}",
        "{orders_stream:3.426}",
    ];
    const PARTITIONS: Option<&str> = Some("4");

    async fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![Fault::SlotMoves; 2];
        if self.can_migrate().await {
            faults.push(Fault::SlotMigrates);
        }
        faults
    }

    fn url(&self) -> String {
        format!("redis+cluster://{}", self.hosts())
    }

    async fn holder(&self, key: &str) -> &RedisServer {
        &self.nodes[self.owner(key).await]
    }

    async fn suffer(&mut self, fault: Fault, lasts: Duration, key: &str) {
        let primary = self.owner(key).await;
        let mut others = self.primaries().await;
        others.remove(&primary);
        let to = *others.first().unwrap();
        match fault {
            Fault::FailsOver => {
                self.fail_over(key).await;
            }
            Fault::Away(_) => {
                self.replica_of(primary).await;
                self.nodes[primary].kill();
                self.left(key, primary).await;
                self.nodes[primary].restart().await;
            }
            Fault::ReplicaLags => {
                let replica = self.replica_of(primary).await;
                dies_before_its_replica_has_all(&mut self.nodes, primary, replica, lasts).await;
                self.left(key, primary).await;
                self.nodes[primary].restart().await;
            }
            Fault::CutOff => {
                self.cut_off(primary).await;
                self.left(key, primary).await;
                sleep(lasts).await;
                self.join().await;
            }
            Fault::SlotMigrates => self.migrate(key, to).await,
            Fault::SlotMoves => {
                // A replica does not know that a slot moves: on a machine that is busy for longer than
                // the node timeout it would take over without the keys that have moved.
                self.let_fail_over(false).await;
                let moving = self.open_move(key, to).await;
                sleep(lasts / 2).await;
                let mut keys = moving.keys().await;
                keys.truncate(keys.len() / 2);
                moving.carry(&keys).await;
                sleep(lasts / 2).await;
                moving.finish().await;
                self.let_fail_over(true).await;
            }
            _ => assert!(
                one_suffers(&mut self.nodes[primary], fault, lasts, key).await,
                "{fault}"
            ),
        }
        self.is_whole().await;
    }
}
