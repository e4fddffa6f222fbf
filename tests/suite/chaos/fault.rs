//! The kinds of fault, what each one hits and how long it may last, and the schedule that a seed makes of them.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::proxy::{REFUSALS, Refusal};

/// What a fault hits. One thing suffers one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Serve,
    Run,
    Work,
    Redis,
    Postgres,
    /// The data folder.
    Folder,
    /// The way to Redis.
    RedisPath,
    /// The way to PostgreSQL.
    PostgresPath,
    Clock,
    /// A primary that has a replica.
    Primary,
    /// Two of three.
    Sentinels,
}

impl Target {
    pub const ALL: [Self; 11] = [
        Self::Serve,
        Self::Run,
        Self::Work,
        Self::Redis,
        Self::Postgres,
        Self::Folder,
        Self::RedisPath,
        Self::PostgresPath,
        Self::Clock,
        Self::Primary,
        Self::Sentinels,
    ];

    /// Whether processes wait for it.
    fn is_store(self) -> bool {
        matches!(
            self,
            Self::Redis | Self::Postgres | Self::RedisPath | Self::PostgresPath | Self::Primary
        )
    }
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// SIGKILL and a new start.
    Kill(Target),
    /// SIGTERM, which must end it with 0 in time, and a new start.
    Terminate(Target),
    /// SIGSTOP, and SIGCONT later.
    Stop(Target),
    /// SIGKILL, and a new start only later.
    Away(Target),
    /// Redis answers with an error that refuses.
    Refused(Refusal),
    /// What was asked is done, and the connection is cut before the answer.
    RepliesCut(Target),
    /// Answers come seconds late.
    Slow(Target),
    /// Connections stay open and nothing passes.
    Silent(Target),
    /// `XGROUP DESTROY`.
    GroupDestroyed,
    /// `SCRIPT FLUSH`.
    ScriptsFlushed,
    /// The real OOM: a `maxmemory` that is exceeded.
    MemoryFull,
    /// The real BUSY: a script that does not end.
    ScriptHangs,
    /// The real READONLY, then MASTERDOWN: the server becomes a replica of nobody.
    MadeReplica,
    /// Sessions that lock the same orders the other way round.
    Deadlocks,
    /// The events table locked by somebody else.
    TableLocked,
    /// All sessions ended by the administrator.
    SessionsEnded,
    /// No room for a single page more where that keeps its files.
    DiskFull(Target),
    /// The wall clock of our processes is off by so many seconds.
    ClockJumps(i64),
    /// A planned failover: the primary and its replica change places.
    FailsOver,
    /// SIGKILL of a primary whose replica stood still before, and takes over then; no worker reads meanwhile.
    ReplicaLags,
    /// A primary is cut off from all but its clients, and another takes its place meanwhile.
    CutOff,
    /// A hash slot of ours moves by SETSLOT and MIGRATE, held open midway.
    SlotMoves,
    /// A hash slot of ours moves as a whole, where the server is able to do that.
    SlotMigrates,
}

impl Fault {
    pub fn target(self) -> Target {
        match self {
            Self::Kill(target)
            | Self::Terminate(target)
            | Self::Stop(target)
            | Self::Away(target)
            | Self::RepliesCut(target)
            | Self::Slow(target)
            | Self::Silent(target)
            | Self::DiskFull(target) => target,
            Self::Refused(_) => Target::RedisPath,
            Self::GroupDestroyed | Self::ScriptsFlushed | Self::MemoryFull | Self::ScriptHangs | Self::MadeReplica => {
                Target::Redis
            }
            Self::Deadlocks | Self::TableLocked | Self::SessionsEnded => Target::Postgres,
            Self::ClockJumps(_) => Target::Clock,
            Self::FailsOver | Self::ReplicaLags | Self::CutOff | Self::SlotMoves | Self::SlotMigrates => {
                Target::Primary
            }
        }
    }

    /// How long it lasts, tenths of a second: from, up to.
    fn lasts(self, seconds: u64) -> (u64, u64) {
        match self {
            // A minute where the run is long enough for it.
            Self::Away(Target::Redis) => (60.min(seconds / 10) * 10, 60.min(seconds / 10) * 10 + 1),
            // Below what makes others take its place, and beyond it.
            Self::Stop(Target::Primary) => (5, 90),
            Self::ReplicaLags => (3, 10),
            Self::CutOff | Self::SlotMoves => (5, 40),
            Self::Away(_) => (10, 40),
            Self::FailsOver
            | Self::SlotMigrates
            | Self::Kill(_)
            | Self::Terminate(_)
            | Self::GroupDestroyed
            | Self::ScriptsFlushed
            | Self::SessionsEnded => (0, 1),
            // Beyond CLAIM_IDLE, so that others take over what it holds.
            Self::Stop(_) => (5, 45),
            Self::Refused(_) | Self::RepliesCut(_) | Self::MemoryFull | Self::ScriptHangs | Self::MadeReplica => {
                (5, 20)
            }
            Self::Slow(_) | Self::Silent(_) => (10, 40),
            Self::TableLocked | Self::DiskFull(_) | Self::ClockJumps(_) => (10, 30),
            Self::Deadlocks => (25, 45),
        }
    }
}

/// As it stands in the report: one line a kind.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) => write!(f, "SIGKILL of {target}"),
            Self::Terminate(target) => write!(f, "SIGTERM of {target}"),
            Self::Stop(target) => write!(f, "SIGSTOP of {target}"),
            Self::Away(target) => write!(f, "{target} down for a while"),
            Self::Refused(refusal) => {
                let code = refusal.line.split(' ').next().unwrap_or_default();
                write!(f, "Redis answers {code}")
            }
            Self::RepliesCut(target) => write!(f, "connection to {target} cut before the reply"),
            Self::Slow(target) => write!(f, "replies of {target} seconds late"),
            Self::Silent(target) => write!(f, "connection to {target} silent"),
            Self::GroupDestroyed => f.write_str("XGROUP DESTROY"),
            Self::ScriptsFlushed => f.write_str("SCRIPT FLUSH"),
            Self::MemoryFull => f.write_str("Redis out of memory (maxmemory)"),
            Self::ScriptHangs => f.write_str("Redis busy with a script that does not end"),
            Self::MadeReplica => f.write_str("Redis made a replica of nobody"),
            Self::Deadlocks => f.write_str("PostgreSQL deadlocks"),
            Self::TableLocked => f.write_str("PostgreSQL table locked by others"),
            Self::SessionsEnded => f.write_str("PostgreSQL ends all sessions"),
            Self::DiskFull(target) => write!(f, "disk of {target} full"),
            Self::ClockJumps(seconds) => write!(f, "wall clock jumps by {seconds:+} s"),
            Self::FailsOver => f.write_str("planned failover"),
            Self::ReplicaLags => f.write_str("SIGKILL of a primary whose replica lags"),
            Self::CutOff => f.write_str("a primary cut off from the other servers"),
            Self::SlotMoves => f.write_str("a hash slot moves (SETSLOT, MIGRATE)"),
            Self::SlotMigrates => f.write_str("a hash slot moves (atomic)"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serve => "serve",
            Self::Run => "run",
            Self::Work => "work",
            Self::Redis | Self::RedisPath => "Redis",
            Self::Postgres | Self::PostgresPath => "PostgreSQL",
            Self::Folder => "the data folder",
            Self::Clock => "the clock",
            Self::Primary => "a primary",
            Self::Sentinels => "two of three sentinels",
        })
    }
}

/// Beyond the dedupe window.
const CLOCK_JUMPS: [Fault; 2] = [Fault::ClockJumps(7 * 3600), Fault::ClockJumps(-7 * 3600)];

/// Everything that can go wrong between Redis and PostgreSQL.
pub fn for_services(has_clock: bool, has_small_disk: bool) -> Vec<Fault> {
    let processes = [
        Target::Serve,
        Target::Run,
        Target::Work,
        Target::Redis,
        Target::Postgres,
    ];
    let paths = [Target::RedisPath, Target::PostgresPath];
    let mut deck: Vec<Fault> = processes
        .iter()
        .flat_map(|&one| [Fault::Kill(one), Fault::Stop(one)])
        .collect();
    deck.extend(
        paths
            .iter()
            .flat_map(|&one| [Fault::RepliesCut(one), Fault::Slow(one), Fault::Silent(one)]),
    );
    deck.extend(REFUSALS.map(Fault::Refused));
    deck.extend([
        Fault::Away(Target::Redis),
        Fault::Away(Target::Postgres),
        Fault::GroupDestroyed,
        Fault::ScriptsFlushed,
        Fault::MemoryFull,
        Fault::ScriptHangs,
        Fault::MadeReplica,
        Fault::Deadlocks,
        Fault::TableLocked,
        Fault::SessionsEnded,
    ]);
    if has_clock {
        deck.extend(CLOCK_JUMPS);
    }
    if has_small_disk {
        deck.push(Fault::DiskFull(Target::Postgres));
    }
    deck
}

/// Everything that can go wrong where all is in one process and one folder.
pub fn for_files(has_clock: bool, has_small_disk: bool) -> Vec<Fault> {
    let mut deck = vec![Fault::Kill(Target::Run); 3];
    deck.extend([Fault::Stop(Target::Run), Fault::Terminate(Target::Run)]);
    if has_clock {
        deck.extend(CLOCK_JUMPS);
    }
    if has_small_disk {
        deck.extend([Fault::DiskFull(Target::Folder); 2]);
    }
    deck
}

/// What can go wrong where a replica takes over. What a process had confirmed before it was killed it cannot report as
/// lost, so that processes are not killed where the store may lose something.
pub fn for_replicas(may_kill_processes: bool) -> Vec<Fault> {
    let processes = [Target::Serve, Target::Run, Target::Work];
    let mut deck = vec![
        Fault::Kill(Target::Primary),
        Fault::Away(Target::Primary),
        Fault::Stop(Target::Primary),
        Fault::FailsOver,
        Fault::ReplicaLags,
        Fault::CutOff,
        Fault::GroupDestroyed,
        Fault::ScriptsFlushed,
        Fault::Kill(Target::Postgres),
    ];
    // What is not loaded yet can be lost.
    deck.extend([Fault::Stop(Target::Postgres); 2]);
    deck.extend(processes.map(Fault::Stop));
    if may_kill_processes {
        deck.extend(processes.map(Fault::Kill));
    }
    deck
}

/// One fault of a schedule. Two lanes run side by side, so that faults meet.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub lane: usize,
    /// After the start.
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

pub const LANES: usize = 2;

/// The schedule of that seed: every kind about equally often, none on a target that suffers already.
pub fn schedule(seed: u64, seconds: u64, deck: &[Fault]) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = seconds * 10;
    let mut free = [10, 15];
    let mut pile: Vec<Fault> = Vec::new();
    let mut planned: Vec<Planned> = Vec::new();
    loop {
        let lane = usize::from(free[1] < free[0]);
        let at = free[lane];
        if pile.is_empty() {
            pile.extend(deck);
            pile.shuffle(&mut rng);
        }
        let now = Duration::from_millis(at * 100);
        let busy = planned
            .iter()
            .rev()
            .find(|other| other.lane != lane && other.at + other.lasts >= now)
            .map(|other| other.fault.target());
        let may = |fault: &&Fault| Some(fault.target()) != busy;
        // A process that dies while what it waits for is away has the most in hand.
        let is_deadly = |fault: &&Fault| busy.is_some_and(Target::is_store) && matches!(fault, Fault::Kill(_));
        let draw = pile.iter().rposition(|fault| may(&fault) && is_deadly(&fault));
        let draw = draw.or_else(|| pile.iter().rposition(|fault| may(&fault)));
        let fault = pile.remove(draw.unwrap_or(pile.len() - 1));
        let (shortest, longest) = fault.lasts(seconds);
        let lasts = rng.random_range(shortest..longest);
        if at + lasts >= end {
            return planned;
        }
        planned.push(Planned {
            lane,
            at: now,
            lasts: Duration::from_millis(lasts * 100),
            fault,
        });
        free[lane] = at + lasts + rng.random_range(5..25);
    }
}

#[test]
fn a_seed_makes_a_schedule() {
    let deck = for_services(true, true);
    let plan = |seed| {
        format!(
            "{:?}",
            schedule(seed, 600, &deck)
                .iter()
                .map(|one| (one.at, one.fault.to_string()))
                .collect::<Vec<_>>()
        )
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
    let planned = schedule(1, 1_800, &deck);
    for fault in &deck {
        let name = fault.to_string();
        assert!(
            planned.iter().filter(|one| one.fault.to_string() == name).count() > 5,
            "{name}"
        );
    }
}
