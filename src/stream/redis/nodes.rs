//! The processes on a stream, on Redis: a hash beside it, by the server's clock.

use std::time::Duration;

use async_trait::async_trait;

use super::keys::millis;
use super::scripts;
use super::stream::RedisStream;
use crate::stream::nodes::MINUTES_KEPT;
use crate::stream::{Heartbeat, NodeRegistry, StreamError};

fn heartbeats(answer: Vec<(String, String, u64)>) -> Vec<Heartbeat> {
    let heartbeat = |(node, record, age)| Heartbeat {
        node,
        record,
        age: Duration::from_millis(age),
    };
    answer.into_iter().map(heartbeat).collect()
}

#[async_trait]
impl NodeRegistry for RedisStream {
    async fn heartbeat(&self, node: &str, record: &str, forget_after: Duration) -> Result<Vec<Heartbeat>, StreamError> {
        let mut script = scripts::HEARTBEAT.key(&self.partitions.at(0).keys.nodes);
        script.arg(millis(forget_after));
        script.arg(node).arg(record);
        Ok(heartbeats(self.partitions.at(0).server.run(&script).await?))
    }

    async fn heartbeats(&self) -> Result<Vec<Heartbeat>, StreamError> {
        let mut script = scripts::HEARTBEAT.key(&self.partitions.at(0).keys.nodes);
        script.arg(u64::MAX);
        Ok(heartbeats(self.partitions.at(0).server.run(&script).await?))
    }

    async fn keep_minute(&self, minute: u64, record: &str) -> Result<(), StreamError> {
        let (first, mut keep) = (self.partitions.at(0), redis::cmd("HSET"));
        keep.arg(&first.keys.minutes).arg(minute % MINUTES_KEPT).arg(record);
        first.server.query::<u64>(&keep).await.map(drop)
    }

    async fn minutes(&self) -> Result<Vec<String>, StreamError> {
        let (first, mut all) = (self.partitions.at(0), redis::cmd("HGETALL"));
        all.arg(&first.keys.minutes);
        let minutes: Vec<(String, String)> = first.server.query(&all).await?;
        Ok(minutes.into_iter().map(|(_, record)| record).collect())
    }

    async fn leave(&self, node: &str, consumers: &[String]) -> Result<(), StreamError> {
        let (first, mut forget) = (self.partitions.at(0), redis::cmd("HDEL"));
        forget.arg(&first.keys.nodes).arg(node);
        first.server.query::<u64>(&forget).await?;
        if consumers.is_empty() {
            return Ok(());
        }
        self.remove_consumers(Duration::ZERO, consumers).await.map(drop)
    }
}
