//! The live view: the figures of the pipeline, second by second, of the last 15 minutes.
//!
//! They come from the stream (entries ever appended) and from the records of all nodes (what each
//! loads), so that any node shows the whole. Must not know HTTP. Invariants: memory is bounded,
//! whatever the number and speed of viewers; a viewer costs the stream no call, since the health
//! collector's are used; what is not known is null, never 0. Each minute is kept beside the stream
//! for a day (`minutes.rs`).

mod history;
mod minutes;
mod sampler;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::history::LiveHistory;
pub use self::history::{LiveSnapshot, ProcessInfo, Sample, Stores};
use self::sampler::Sampler;
use crate::health::collector::Health;
use crate::nodes::Nodes;
use crate::shutdown::Roles;
use crate::stream::Stream;

/// Milliseconds between two samples, as long as the stream answers at once.
pub const INTERVAL_MS: u64 = 1000;
/// Viewers at once.
const VIEWERS: usize = 32;

/// The last minutes, and places for viewers; a cheap clone.
#[derive(Debug, Clone)]
pub struct Live {
    history: watch::Sender<LiveHistory>,
    node: ProcessInfo,
    places: Arc<Semaphore>,
}

impl Live {
    /// Starts the sampler among `roles`, which are to be those of the collector behind `health`.
    #[must_use]
    pub fn start(stream: Arc<dyn Stream>, health: Health, nodes: Nodes, node: ProcessInfo, roles: &Roles) -> Self {
        let live = Self {
            history: watch::Sender::default(),
            node,
            places: Arc::new(Semaphore::new(VIEWERS)),
        };
        let sampler = Sampler {
            history: live.history.clone(),
            node,
            stream,
            health,
            nodes,
        };
        roles.spawn("sampler", sampler.run(roles.stop_token()));
        live
    }

    /// The process that is watched.
    #[must_use]
    pub fn node(&self) -> ProcessInfo {
        self.node
    }

    /// A place to watch from; `None` where all are taken.
    #[must_use]
    pub fn watch(&self) -> Option<Viewer> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Viewer {
            history: self.history.subscribe(),
            _place: place,
        })
    }
}

/// A viewer. Nothing is queued for it: it skips the snapshots that come while it is busy.
#[derive(Debug)]
pub struct Viewer {
    history: watch::Receiver<LiveHistory>,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    /// The samples of the last minutes, oldest first. [`Viewer::next`] goes on after them.
    pub fn history(&mut self) -> Vec<Sample> {
        self.history.borrow_and_update().samples.iter().cloned().collect()
    }

    /// Waits for the next snapshot; `None` when there will be none.
    pub async fn next(&mut self) -> Option<Arc<LiveSnapshot>> {
        self.history.changed().await.ok()?;
        self.history.borrow_and_update().now.clone()
    }
}
