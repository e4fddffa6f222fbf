//! The primary that Redis Sentinel names.
//!
//! All sentinels of the URL are asked at once, `SENTINEL MASTER name`; of the answers the highest
//! config-epoch counts, since a sentinel that was away keeps naming the primary of before. The
//! server that it names is used once its ROLE says that it is a primary.
//!
//! Invariants: where no sentinel answers, or none names a primary, the one in use stays; one look
//! is under way at a time, and whoever waits for it shares its result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Client, ConnectionInfo, Pipeline, RedisError, Value, from_redis_value};

use super::error;
use super::node::{ConnectionLimits, PATIENCE, QuestionConnection, RedisNode};
use super::url::{SentinelUrl, server_at};
use crate::stream::StreamError;

/// The sentinels of one URL.
pub(super) struct Sentinels {
    url: SentinelUrl,
    sentinels: Vec<Sentinel>,
    limits: ConnectionLimits,
}

/// One sentinel.
struct Sentinel {
    address: String,
    questions: QuestionConnection,
}

/// What a sentinel says of the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
    epoch: u64,
}

impl Sentinels {
    pub(super) fn new(mut url: SentinelUrl, limits: ConnectionLimits) -> Result<Self, StreamError> {
        let sentinels = std::mem::take(&mut url.sentinels).into_iter().map(Sentinel::new);
        Ok(Self {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            url,
            limits,
        })
    }

    /// For texts: whose primary it is, and who was asked.
    pub(super) fn address(&self) -> String {
        let each: Vec<_> = self.sentinels.iter().map(|sentinel| &*sentinel.address).collect();
        format!("primary `{}` of the sentinels {}", self.url.name, each.join(", "))
    }

    /// Asks all of them; answers the primary where it is another one than `known`.
    ///
    /// # Errors
    /// No sentinel names a primary.
    pub(super) async fn find(&self, known: Option<&Arc<RedisNode>>) -> Result<Option<Arc<RedisNode>>, StreamError> {
        let (mut answers, mut errors) = (Vec::new(), Vec::new());
        for answer in self.ask(known.is_some()).await {
            match answer {
                Ok(named) => answers.push(named),
                Err(error) => errors.push(error),
            }
        }
        let candidates = newest(answers);
        if candidates.is_empty() {
            return Err(most_telling(errors).unwrap_or_else(|| self.unnamed("no sentinel answers")));
        }
        let mut why_not = None;
        let mut is_known_named = false;
        for named in candidates {
            let info = server_at(&self.url.server, &named.host, named.port);
            let node = Arc::new(RedisNode::new(info, self.limits)?);
            // Last: a sentinel that leads a failover may name the former primary for a moment more.
            if known.is_some_and(|known| known.address == node.address) {
                is_known_named = true;
                continue;
            }
            let limit = self.limits_of(known.is_some());
            let answer = tokio::time::timeout(limit.connect + limit.response, node.is_primary()).await;
            let unnamed = |why| self.unnamed(&format!("they name {}, {why}", node.address));
            match answer {
                Ok(Ok(true)) => return Ok(Some(node)),
                Ok(Ok(false)) => why_not = Some(unnamed("whose ROLE is not master")),
                Ok(Err(error)) => why_not = Some(error),
                Err(_) => why_not = Some(unnamed("which does not answer")),
            }
        }
        match why_not.filter(|_| !is_known_named) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Sentinels that do not answer, or do not know the name, as warnings.
    pub(super) async fn warnings(&self) -> Vec<String> {
        let answers = self.ask(false).await.into_iter();
        let errors = answers.filter_map(Result::err);
        let warning = |error| format!("A sentinel is of no use now, and a failover needs most of them: {error}.");
        errors.map(warning).collect()
    }

    async fn ask(&self, is_brief: bool) -> Vec<Result<Named, StreamError>> {
        let limits = self.limits_of(is_brief);
        let each = self.sentinels.iter();
        join_all(each.map(|sentinel| sentinel.ask(&self.url.name, limits))).await
    }

    fn limits_of(&self, is_brief: bool) -> ConnectionLimits {
        let longest = if is_brief { PATIENCE } else { Duration::MAX };
        ConnectionLimits {
            connect: self.limits.connect.min(longest),
            response: self.limits.response.min(longest),
            ..self.limits
        }
    }

    fn unnamed(&self, why: &str) -> StreamError {
        StreamError::Unreachable {
            server: self.address(),
            message: why.to_owned(),
        }
    }
}

impl Sentinel {
    fn new(info: ConnectionInfo) -> Result<Self, StreamError> {
        let address = info.addr().to_string();
        let client = Client::open(info);
        let client = client.map_err(|error| StreamError::Unusable(format!("{address}: {error}")))?;
        Ok(Self {
            address,
            questions: QuestionConnection::new(client),
        })
    }

    async fn ask(&self, name: &str, limits: ConnectionLimits) -> Result<Named, StreamError> {
        let mut question = Pipeline::new();
        question.cmd("SENTINEL").arg("MASTER").arg(name);
        let asked = self.questions.ask(question, limits).await;
        let failed = |(error, limit)| self.failed(name, &error, limit);
        let reply = asked.map_err(failed)?.into_iter().next().unwrap_or(Ok(Value::Nil));
        let answer = reply.and_then(|value| Ok(from_redis_value::<HashMap<String, String>>(value)?));
        let answer = answer.map_err(|error| failed((error, limits.response)))?;
        named(&answer).ok_or_else(|| {
            StreamError::Unusable(format!(
                "{} sent an answer that no supported sentinel sends",
                self.address
            ))
        })
    }

    fn failed(&self, name: &str, error: &RedisError, limit: Duration) -> StreamError {
        let says = |text: &str| error.detail().is_some_and(|detail| detail.contains(text));
        let server = &self.address;
        if says("No such master") {
            StreamError::Unusable(format!(
                "{server} knows no primary named `{name}`: correct the name after the hosts of REDIS_URL, or add it \
                 (sentinel monitor {name} ...)"
            ))
        } else if says("unknown command") {
            StreamError::Unusable(format!(
                "{server} is no sentinel: redis+sentinel:// takes sentinels (port 26379)"
            ))
        } else {
            error::stream_error(server, error, limit)
        }
    }
}

fn named(answer: &HashMap<String, String>) -> Option<Named> {
    Some(Named {
        host: answer.get("ip").filter(|host| !host.is_empty())?.clone(),
        port: answer.get("port")?.parse().ok().filter(|port| *port > 0)?,
        epoch: answer.get("config-epoch")?.parse().ok()?,
    })
}

/// The different answers of the highest epoch.
fn newest(mut answers: Vec<Named>) -> Vec<Named> {
    let newest = answers.iter().map(|named| named.epoch).max();
    answers.retain(|named| Some(named.epoch) == newest);
    let mut different: Vec<Named> = Vec::new();
    for named in answers {
        if !different.contains(&named) {
            different.push(named);
        }
    }
    different
}

/// Of several sentinels' errors the one that an operator can do most about.
fn most_telling(errors: Vec<StreamError>) -> Option<StreamError> {
    errors.into_iter().min_by_key(|error| match error {
        StreamError::Denied(_) => 0,
        StreamError::Unusable(_) | StreamError::UnusableKey(_) => 1,
        StreamError::Refused { .. } | StreamError::Full(_) | StreamError::Unconfirmed(_) => 2,
        StreamError::Timeout { .. } | StreamError::Unreachable { .. } => 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, epoch: u64) -> Named {
        Named {
            host: host.to_owned(),
            port: 6379,
            epoch,
        }
    }

    #[test]
    fn the_highest_epoch_counts_however_few_say_it() {
        assert_eq!(newest(Vec::new()), []);
        assert_eq!(newest(vec![of("a", 3), of("a", 3), of("a", 3)]), [of("a", 3)]);
        assert_eq!(newest(vec![of("a", 3), of("b", 4), of("a", 3)]), [of("b", 4)]);
        assert_eq!(
            newest(vec![of("a", 4), of("b", 4), of("c", 0)]),
            [of("a", 4), of("b", 4)]
        );
    }

    #[test]
    fn an_answer_without_address_or_epoch_counts_for_nothing() {
        let answer = |fields: &[(&str, &str)]| {
            named(
                &fields
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .collect(),
            )
        };
        let whole = [
            ("ip", "a"),
            ("port", "6379"),
            ("config-epoch", "3"),
            ("flags", "master"),
        ];
        assert_eq!(answer(&whole), Some(of("a", 3)));
        for missing in 0..3 {
            let mut fields = whole.to_vec();
            fields.remove(missing);
            assert_eq!(answer(&fields), None);
        }
        assert_eq!(answer(&[("ip", ""), ("port", "1"), ("config-epoch", "1")]), None);
        assert_eq!(answer(&[("ip", "a"), ("port", "0"), ("config-epoch", "1")]), None);
    }
}
