//! Two writers whose commands interleave in any order, cut off after any of them, and resends: each event is in the stream
//! in the end, and nothing is called stored that is not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use orderstream::stream::Stream;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::Config;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::harness::seeded;

const SCENARIOS: usize = 48;
/// How long a writer that is to go next may have nothing to send before the other goes.
const IDLE: Duration = Duration::from_millis(15);

/// Where a writer is cut off: after so many commands of its connections.
#[derive(Debug, Clone)]
struct Cut {
    commands: usize,
    /// The last of them is carried out, and its answer gets lost.
    carried_out: bool,
    /// The process dies; else only its connection.
    dies: bool,
}

/// An event and which of two bodies it has.
type Sent = (u32, u32);

#[derive(Debug, Clone)]
struct Scenario {
    /// Which writer's command goes next.
    turns: Vec<usize>,
    flushes: [Vec<Vec<Sent>>; 2],
    cuts: [Vec<Cut>; 2],
    window: Duration,
}

fn scenario() -> impl Strategy<Value = Scenario> {
    // Seldom another body.
    let sent = (0..6u32, prop_oneof![6 => Just(0), 1 => Just(1)]);
    let flushes = || prop::collection::vec(prop::collection::vec(sent.clone(), 1..6), 1..4);
    let cut = (0..40usize, any::<bool>(), any::<bool>());
    let cut = cut.prop_map(|(commands, carried_out, dies)| Cut {
        commands,
        carried_out,
        dies,
    });
    let cuts = || prop::collection::vec(cut.clone(), 0..3);
    let turns = prop::collection::vec(0..2usize, 0..120);
    // In a short window generations change on the way.
    let window = prop_oneof![Just(6 * 3600), Just(1)].prop_map(Duration::from_secs);
    (turns, [flushes(), flushes()], [cuts(), cuts()], window).prop_map(|(turns, flushes, cuts, window)| Scenario {
        turns,
        flushes,
        cuts,
        window,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_interleaves_and_dies_each_event_is_stored_and_no_answer_is_wrong() {
    let server = RedisServer::start().await;
    let mut runner = seeded(Config::default());
    let mut running = JoinSet::new();
    for number in 0..SCENARIOS {
        let scenario = scenario().new_tree(&mut runner).unwrap().current();
        running.spawn(run(scenario, server.url(), server.config(), format!("stream-{number}")));
    }
    for (scenario, name, answers) in running.join_all().await {
        let stored: Vec<(String, HashMap<String, String>)> = server.command(&["XRANGE", &name, "-", "+"]).await;
        let at: HashMap<_, _> = stored.iter().map(|(id, fields)| (&**id, fields)).collect();
        for flushes in &scenario.flushes {
            for (event, _) in flushes.iter().flatten() {
                let is_stored = stored.iter().any(|(_, fields)| fields["event_id"] == event.to_string());
                assert!(is_stored, "{event} is not stored: {scenario:#?}");
            }
        }
        for ((event, body), outcome) in answers {
            let (id, same_body) = match &outcome {
                Appended::Accepted(id) | Appended::Duplicate(id) => (id, true),
                Appended::Conflict(id) => (id, false),
                other => panic!("{other:?}: {scenario:#?}"),
            };
            let entry = at.get(&*id.to_string());
            let entry =
                entry.unwrap_or_else(|| panic!("{event} was answered {outcome:?}, which is not there: {scenario:#?}"));
            assert_eq!(entry["event_id"], event.to_string(), "{outcome:?}: {scenario:#?}");
            assert_eq!(
                entry["payload"] == payload(event, body),
                same_body,
                "{outcome:?}: {scenario:#?}"
            );
        }
    }
}

fn payload(event: u32, body: u32) -> String {
    format!("{{\"event\":{event},\"body\":{body}}}")
}

fn sent((event, body): Sent) -> NewEntry {
    let mut fields = Fields::default();
    fields.push("event_type", "order.created");
    fields.push("event_id", event.to_string());
    fields.push("timestamp", "2026-01-02T03:04:05Z");
    fields.push("payload", payload(event, body));
    NewEntry {
        destination: Destination::Stream,
        dedupe_key: event.to_string(),
        digest: [u8::try_from(body).unwrap(); 16],
        spread: 0,
        fields,
    }
}

/// Answers what every event was answered that was sent.
async fn run(
    scenario: Scenario,
    target: String,
    config: RedisConfig,
    name: String,
) -> (Scenario, String, Vec<(Sent, Appended)>) {
    let turns = Arc::new(Turns::of(&scenario.turns));
    let writer = |number: usize| {
        let link = SteppedLink::to(&target, number, Arc::clone(&turns), &scenario.cuts[number]);
        let redis = RedisConfig {
            url: link.url().into(),
            ..config.clone()
        };
        let stream = StreamConfig {
            name: name.clone(),
            dedupe_window: Some(scenario.window),
            ..stream_config()
        };
        send(scenario.flushes[number].clone(), redis, stream, link)
    };
    let (mut a, b) = tokio::join!(writer(0), writer(1));
    a.extend(b);
    (scenario, name, a)
}

/// Sends the flushes one after the other, each until all of it is answered.
async fn send(
    flushes: Vec<Vec<Sent>>,
    redis: RedisConfig,
    config: StreamConfig,
    link: SteppedLink,
) -> Vec<(Sent, Appended)> {
    let open = || RedisStream::new(&redis, &config, Metrics::new()).unwrap();
    let mut stream = open();
    let mut writer = stream.writer();
    let mut answers = Vec::new();
    for mut flush in flushes {
        let mut tries = 0;
        while !flush.is_empty() {
            tries += 1;
            assert!(tries < 100, "no end: {flush:?}");
            let entries = Vec::from_iter(flush.iter().copied().map(sent));
            // Both ways to append take turns.
            let appended = match tries % 2 {
                0 => writer.try_append(&entries).await,
                _ => writer.try_append_with_more(&entries).await,
            };
            if link.has_died() {
                // What it learnt is lost with it.
                stream = open();
                writer = stream.writer();
                continue;
            }
            if let Ok(outcomes) = appended {
                let answered = flush.iter().copied().zip(outcomes);
                let (later, now) = answered.partition::<Vec<_>, _>(|(_, one)| matches!(one, Appended::Unavailable(_)));
                flush = later.into_iter().map(|(sent, _)| sent).collect();
                answers.extend(now);
            }
        }
        writer.settle().await;
    }
    answers
}

/// Whose command goes next.
struct Turns {
    left: Mutex<VecDeque<usize>>,
    changed: Notify,
}

impl Turns {
    fn of(turns: &[usize]) -> Self {
        Self {
            left: Mutex::new(turns.iter().copied().collect()),
            changed: Notify::new(),
        }
    }

    async fn take(&self, writer: usize) {
        loop {
            let changed = self.changed.notified();
            {
                let mut left = self.left.lock().unwrap();
                if left.front().is_none_or(|next| *next == writer) {
                    left.pop_front();
                    break;
                }
            }
            if tokio::time::timeout(IDLE, changed).await.is_err() {
                self.left.lock().unwrap().pop_front();
            }
        }
        self.changed.notify_waiters();
    }
}

/// A way to the server that carries one command at a time.
struct SteppedLink {
    folder: TempDir,
    has_died: Arc<Mutex<bool>>,
    _accepting: JoinSet<()>,
}

/// What the connections of a link share.
#[derive(Clone)]
struct Steps {
    writer: usize,
    turns: Arc<Turns>,
    cuts: Arc<Mutex<VecDeque<Cut>>>,
    has_died: Arc<Mutex<bool>>,
}

impl SteppedLink {
    fn to(url: &str, writer: usize, turns: Arc<Turns>, cuts: &[Cut]) -> Self {
        let folder = tempfile::Builder::new().prefix("link-").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("redis.sock")).unwrap();
        let target = url.trim_start_matches("unix://").to_owned();
        let has_died = Arc::<Mutex<bool>>::default();
        let steps = Steps {
            writer,
            turns,
            cuts: Arc::new(Mutex::new(cuts.iter().cloned().collect())),
            has_died: Arc::clone(&has_died),
        };
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&target).await.unwrap();
                links.spawn(forward(client, server, steps.clone()));
            }
        });
        Self {
            folder,
            has_died,
            _accepting: accepting,
        }
    }

    fn url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// Since the last call.
    fn has_died(&self) -> bool {
        std::mem::take(&mut self.has_died.lock().unwrap())
    }
}

/// Until either end closes, or the writer is cut off.
async fn forward(mut client: UnixStream, mut server: UnixStream, steps: Steps) {
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    while let Some(command) = next(&mut client, &mut asked).await {
        steps.turns.take(steps.writer).await;
        let cut = steps.cut();
        if cut.as_ref().is_none_or(|cut| cut.carried_out) {
            server.write_all(&command).await.unwrap();
            let Some(answer) = next(&mut server, &mut answered).await else {
                return;
            };
            if cut.is_none() && client.write_all(&answer).await.is_err() {
                return;
            }
        }
        if let Some(cut) = cut {
            *steps.has_died.lock().unwrap() |= cut.dies;
            return;
        }
    }
}

impl Steps {
    /// Counts a command; answers the cut that comes with it.
    fn cut(&self) -> Option<Cut> {
        let mut cuts = self.cuts.lock().unwrap();
        let cut = cuts.front_mut()?;
        if cut.commands == 0 {
            return cuts.pop_front();
        }
        cut.commands -= 1;
        None
    }
}

/// The next command or answer, off the front of what was received.
async fn next(socket: &mut UnixStream, received: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = length(received) {
            return Some(received.drain(..length).collect());
        }
        let mut piece = [0; 16 << 10];
        let read = socket.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        received.extend_from_slice(&piece[..read]);
    }
}

/// Bytes of the first value; `None` where it is not complete.
fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).unwrap().parse::<i64>().unwrap();
    match bytes[0] {
        b'*' => (0..number()).try_fold(end, |at, _| Some(at + length(&bytes[at..])?)),
        b'$' if number() >= 0 => Some(end + usize::try_from(number()).unwrap() + 2).filter(|all| *all <= bytes.len()),
        _ => Some(end),
    }
}
