//! What a node of a cluster refuses because a hash slot is another's, or moves: the commands are sent
//! again, each to where its node says.
//!
//! MOVED: the slot is another node's for good, and the map learns it. ASK: the slot moves, and this
//! key is on its way or there already; one command goes there, behind ASKING, and the map stays. Each
//! command of a pipeline is followed by itself: what its neighbours did, they did. TRYAGAIN, which a
//! call with several keys meets while some of them have moved, stays a refusal.

use std::sync::Arc;

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, make_extension_error};

use super::cluster::{Cluster, Redirect};
use super::durability::Proof;
use super::node::{ConnectionGuard, RedisNode};
use super::scripts;
use super::server::Server;
use super::whereabouts::Whereabouts;
use crate::metrics::{RedirectKind, RedirectLabels};
use crate::stream::StreamError;

/// Redirects of one command that are followed.
const HOPS: usize = 3;

/// Whether what was written is proven; `None` where nothing was asked.
type ProofOutcome = Option<Result<(), StreamError>>;

/// Commands that go to one node, by their place among all.
struct Redirected {
    node: Arc<RedisNode>,
    is_asking: bool,
    places: Vec<usize>,
}

impl Server {
    /// Whether this is a redirect, and there is a cluster to follow it in.
    pub(super) fn is_redirect(&self, error: &RedisError) -> bool {
        let is_one = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask)
        );
        is_one && self.servers.is_cluster()
    }

    pub(super) fn has_redirect(&self, answers: &[RedisResult<Value>]) -> bool {
        let mut errors = answers.iter().filter_map(|answer| answer.as_ref().err());
        errors.any(|error| self.is_redirect(error))
    }

    /// Counts a refusal of a cluster's node that is to be met by waiting, and has the map asked for.
    pub(super) fn note_refusal(&self, error: &RedisError) {
        let kinds = [
            (ServerErrorKind::TryAgain, RedirectKind::Tryagain),
            (ServerErrorKind::ClusterDown, RedirectKind::Down),
            (ServerErrorKind::ReadOnly, RedirectKind::Readonly),
        ];
        let found = kinds
            .into_iter()
            .find(|(kind, _)| error.kind() == ErrorKind::Server(*kind));
        let Some((_, kind)) = found else { return };
        if self.servers.is_cluster() {
            self.metrics().redirects.get_or_create(&RedirectLabels { kind }).inc();
            self.doubt();
        }
    }

    /// Puts the answers to redirected commands in the place of the redirects. `answered` gave these.
    ///
    /// # Errors
    /// An outcome is unknown.
    pub(super) async fn follow(
        &self,
        answered: &Arc<RedisNode>,
        commands: &[&Cmd],
        answers: &mut [RedisResult<Value>],
    ) -> Result<(), StreamError> {
        self.follow_proving(answered, commands, answers, None).await.map(drop)
    }

    /// As [`follow`](Self::follow); what the commands wrote is to be proven, where there is a probe.
    /// Answers whether it was, where any was followed.
    pub(super) async fn follow_proving(
        &self,
        answered: &Arc<RedisNode>,
        commands: &[&Cmd],
        answers: &mut [RedisResult<Value>],
        probe: Option<&str>,
    ) -> Result<ProofOutcome, StreamError> {
        let whereabouts = self.whereabouts_now();
        let Whereabouts::Cluster(cluster) = &*whereabouts else {
            return Ok(None);
        };
        let mut from = vec![Arc::clone(answered); answers.len()];
        let mut proven: ProofOutcome = None;
        for _ in 0..HOPS {
            let groups = self.redirected(cluster, &from, answers)?;
            if groups.is_empty() {
                break;
            }
            for group in groups {
                let sent = self.send_to(&group, commands, answers, probe).await?;
                proven = match (proven, sent) {
                    (Some(one), Some(other)) => Some(one.and(other)),
                    (one, other) => one.or(other),
                };
                for &place in &group.places {
                    from[place] = Arc::clone(&group.node);
                }
            }
        }
        for answer in answers.iter_mut() {
            if let Err(error) = answer
                && self.is_redirect(error)
            {
                let text = format!("its nodes do not agree on who owns a hash slot: {error}");
                *answer = Err(make_extension_error("CLUSTERDOWN".to_owned(), Some(text)));
            }
        }
        Ok(proven)
    }

    fn redirected(
        &self,
        cluster: &Cluster,
        from: &[Arc<RedisNode>],
        answers: &[RedisResult<Value>],
    ) -> Result<Vec<Redirected>, StreamError> {
        let mut groups: Vec<Redirected> = Vec::new();
        for (place, (answer, answered)) in answers.iter().zip(from).enumerate() {
            let redirect = answer.as_ref().err().and_then(|error| Redirect::of(error, answered));
            let Some(redirect) = redirect else { continue };
            let is_asking = redirect.moved.is_none();
            let kind = if is_asking {
                RedirectKind::Ask
            } else {
                RedirectKind::Moved
            };
            self.metrics().redirects.get_or_create(&RedirectLabels { kind }).inc();
            let node = cluster.follow(&redirect)?;
            let known = groups
                .iter_mut()
                .find(|group| group.is_asking == is_asking && Arc::ptr_eq(&group.node, &node));
            match known {
                Some(group) => group.places.push(place),
                None => groups.push(Redirected {
                    node,
                    is_asking,
                    places: vec![place],
                }),
            }
        }
        Ok(groups)
    }

    /// Sends those commands to their node. Where that cannot be reached they stay refused.
    async fn send_to(
        &self,
        group: &Redirected,
        commands: &[&Cmd],
        answers: &mut [RedisResult<Value>],
        probe: Option<&str>,
    ) -> Result<ProofOutcome, StreamError> {
        let guard = match self.acquire_of(&group.node).await {
            Ok(guard) => guard,
            Err(error) => return Ok(stay_refused(group, answers, &error)),
        };
        // What is given up midway leaves its answer on the way.
        let mut guard = scopeguard::guard(guard, |guard| self.discard(guard));
        let proof = match probe {
            Some(_) => match Proof::meet(self, &mut guard).await {
                Ok(proof) => proof,
                Err(error) => return Ok(stay_refused(group, answers, &error)),
            },
            None => Proof::Answer,
        };
        let mut places = group.places.clone();
        let mut proven = None;
        let mut is_loaded = false;
        while !places.is_empty() {
            let (mut replies, sent) = self
                .ask_there(group, &mut guard, &places, commands, probe, proof)
                .await?;
            proven = sent;
            let mut unknown = Vec::new();
            for (place, reply) in places.into_iter().zip(replies.drain(..)) {
                if !is_loaded && scripts::is_unknown_script(&reply) {
                    unknown.push(place);
                } else {
                    answers[place] = reply;
                }
            }
            for script in unknown.iter().filter_map(|place| scripts::called_by(commands[*place])) {
                script
                    .load(&mut guard)
                    .await
                    .map_err(|error| group.node.stream_error(&error))?;
            }
            is_loaded = true;
            places = unknown;
        }
        drop(scopeguard::ScopeGuard::into_inner(guard));
        Ok(proven)
    }

    async fn ask_there(
        &self,
        group: &Redirected,
        guard: &mut ConnectionGuard,
        places: &[usize],
        commands: &[&Cmd],
        probe: Option<&str>,
        proof: Proof,
    ) -> Result<(Vec<RedisResult<Value>>, ProofOutcome), StreamError> {
        let mut pipeline = Pipeline::with_capacity(2 * places.len() + 3);
        for &place in places {
            if group.is_asking {
                pipeline.cmd("ASKING").ignore();
            }
            pipeline.add_command(commands[place].clone());
        }
        let patience = self.response_timeout() * 3 / 4;
        match probe {
            Some(probe) if group.is_asking => proof.ask_importing(&mut pipeline, probe, patience),
            Some(_) => proof.ask(&mut pipeline, probe, patience),
            None => {}
        }
        let sent = pipeline.ignore_errors().query_async(&mut guard.connection).await;
        let mut replies: Vec<RedisResult<Value>> = sent.map_err(|error| group.node.stream_error(&error))?;
        let proven = probe.map(|_| proof.verify(&group.node, true, &mut replies));
        Ok((replies, proven))
    }
}

/// Nothing was sent: the commands stay refused, and are not redirected again.
fn stay_refused(group: &Redirected, answers: &mut [RedisResult<Value>], error: &StreamError) -> ProofOutcome {
    let text = format!("a redirect to {} cannot be followed: {error}", group.node.address);
    for &place in &group.places {
        answers[place] = Err(make_extension_error("CLUSTERDOWN".to_owned(), Some(text.clone())));
    }
    None
}
