//! Its death, its restart, and its owners.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::harness::embedded::EmbeddedFile;
use crate::harness::eventually;

const APPENDS_TO: &str = "ORDERSTREAM_TEST_APPENDS_TO";

/// No test by itself: what `what_was_confirmed_survives_sigkill` starts in a process of its own. Appends for ever from
/// several tasks and prints what was confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as the process that another test kills"]
async fn appends_until_it_is_killed() {
    let Ok(path) = std::env::var(APPENDS_TO) else { return };
    let stream = open(Path::new(&path));
    let tasks = (0..4).map(|task| {
        let stream = stream.clone();
        async move {
            for n in (task..).step_by(4) {
                for id in append(&stream, n * 10..n * 10 + 1 + n % 9, 900).await {
                    writeln!(std::io::stdout(), "confirmed {id}").unwrap();
                }
            }
        }
    });
    futures_util::future::join_all(tasks).await;
}

#[tokio::test]
async fn what_was_confirmed_survives_sigkill() {
    let file = EmbeddedFile::new();
    let mut confirmed = BTreeSet::new();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact"])
            .arg("stream::embedded_only::survival::appends_until_it_is_killed")
            .env(APPENDS_TO, file.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // What stays in the pipe was confirmed as well.
        let mut read = 0;
        for line in lines {
            let line = line.unwrap();
            // The test runner's own words stand before the first.
            if let Some((_, id)) = line.split_once("confirmed ") {
                confirmed.insert(id.parse::<StreamId>().unwrap());
                read += 1;
            }
            if read == 300 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(read >= 300 * round, "the process ended by itself");
        // The keys of the next round must be new ones.
        file.tamper("DELETE FROM dedupe");
    }
    let stream = open(&file.path());
    let there: BTreeSet<_> = all(&stream, Destination::Stream)
        .await
        .iter()
        .map(|one| one.id)
        .collect();
    let missing: Vec<_> = confirmed.difference(&there).collect();
    assert_eq!(missing, Vec::<&StreamId>::new(), "of {} confirmed", confirmed.len());
    assert_eq!((stream.stats().lost, stream.stats().losses_unknown), (0, 0));
}

#[tokio::test]
async fn a_restart_keeps_groups_attempts_and_idle_times() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    stream.ensure_group().await.unwrap();
    let appended = append(&stream, 0..10, 100).await;
    let never = CancellationToken::new();
    let delivered = stream.reader("a", 0).read(6, Duration::ZERO, &never).await.unwrap();
    stream.ack(&appended[..2], &[]).await.unwrap();
    stream
        .record(appended[2], orderstream::stream::AttemptStep::Failed(2))
        .await
        .unwrap();
    assert_eq!(delivered.len(), 6);
    drop(stream);

    let stream = open(&file.path());
    let stats = stream.stats();
    assert_eq!((stats.length, stats.backlog), (10, 8));
    assert_eq!(stats.oldest_ms, Some(appended[2].ms));
    let own = stream.claim("a", Claim::Own(&[]), StreamId::MIN, 10).await.unwrap();
    let found: Vec<_> = own.entries.iter().map(|one| (one.entry.id, one.deliveries)).collect();
    assert_eq!(found, [2, 3, 4, 5].map(|n| (appended[n], 2)));
    assert_eq!(own.entries[0].attempts.failed, 2);
    let read = stream.reader("b", 0).read(10, Duration::ZERO, &never).await.unwrap();
    assert_eq!(read.len(), 4);

    // Last delivered in what is the future now: the idle time starts over, it is not stuck until that comes.
    let hour = Duration::from_secs(3600);
    file.tamper("UPDATE pending SET delivered_at = delivered_at + 36000000");
    drop(stream);
    let stream = open(&file.path());
    assert_eq!(
        stream
            .claim("c", Claim::Stale(hour), StreamId::MIN, 10)
            .await
            .unwrap()
            .entries,
        []
    );
    let soon = Claim::Stale(Duration::from_millis(20));
    eventually("idle times go on", Duration::from_secs(20), async || {
        let claimed = stream.claim("c", soon, StreamId::MIN, 10).await.unwrap();
        (!claimed.entries.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ids_rise_though_the_clock_goes_back() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    let first = append(&stream, 0..1, 10).await[0];
    let future = StreamId::new(first.ms + 86_400_000, (1 << 20) - 2);
    file.tamper(&format!(
        "UPDATE logs SET last_id = {}",
        crate::harness::embedded::row(future)
    ));
    let next = append(&stream, 1..4, 10).await;
    let expected = [(future.ms, future.seq + 1), (future.ms + 1, 0), (future.ms + 1, 1)];
    assert_eq!(next, expected.map(|(ms, seq)| StreamId::new(ms, seq)));
    assert_eq!(
        stream.report().await.unwrap().oldest_backlog,
        None,
        "no group, no backlog"
    );
    stream.ensure_group().await.unwrap();
    let never = CancellationToken::new();
    let read = stream.reader("a", 0).read(10, Duration::ZERO, &never).await.unwrap();
    assert_eq!(read.len(), 4);
}

#[tokio::test]
async fn a_key_is_forgotten_in_time_though_the_clock_was_ahead() {
    let file = EmbeddedFile::new();
    let config = StreamConfig {
        dedupe_window: Some(Duration::from_millis(300)),
        ..stream_config()
    };
    let stream = try_open(&file.path(), &config).unwrap();
    let first = append(&stream, 0..1, 10).await[0];
    let tomorrow = crate::harness::embedded::row(first) + (86_400_000 << 20);
    file.tamper(&format!("UPDATE logs SET last_id = {tomorrow}"));
    let ahead = append(&stream, 1..9, 10).await;
    eventually("its key is forgotten", Duration::from_secs(20), async || {
        let outcomes = stream.writer().try_append(&[entry(1, 10)]).await.unwrap();
        match outcomes[0] {
            Appended::Accepted(_) => Some(()),
            ref other => {
                assert_eq!(*other, Appended::Duplicate(ahead[0]));
                None
            }
        }
    })
    .await;
    append(&stream, 9..10, 10).await;
    let other = rusqlite::Connection::open(file.path()).unwrap();
    let keys: i64 = other
        .query_row(
            "SELECT COUNT(*) FROM dedupe WHERE id < (SELECT MAX(id) FROM dedupe) - 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(keys, 0, "they are removed too");
}

#[tokio::test]
async fn a_file_has_one_owner_and_many_onlookers() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    append(&stream, 0..5, 100).await;
    let error = try_open(&file.path(), &stream_config()).err().unwrap();
    assert!(error.to_string().contains("in use by another process"), "{error}");

    // Somebody looks at it, for as long as they like.
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let onlooker = rusqlite::Connection::open_with_flags(file.path(), flags).unwrap();
    let count = || -> i64 {
        let sql = "SELECT COUNT(*) FROM entries";
        onlooker.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    onlooker.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 5);
    append(&stream, 5..10, 100).await;
    assert_eq!(count(), 5, "a snapshot");
    onlooker.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 10);

    drop(stream);
    assert_eq!(open(&file.path()).stats().length, 10);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let file = EmbeddedFile::new();
    drop(open(&file.path()));
    file.tamper("PRAGMA user_version = 99");
    let error = try_open(&file.path(), &stream_config()).err().unwrap();
    assert!(error.to_string().contains("newer release"), "{error}");
    let connection = rusqlite::Connection::open(file.path()).unwrap();
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 99);

    let foreign = EmbeddedFile::new();
    foreign.tamper("CREATE TABLE recipes (name TEXT)");
    let error = try_open(&foreign.path(), &stream_config()).err().unwrap();
    assert!(error.to_string().contains("another program's"), "{error}");
    foreign.tamper("INSERT INTO recipes VALUES ('soup')");
}

#[tokio::test]
async fn a_closed_file_has_no_log_beside_it() {
    let file = EmbeddedFile::new();
    let stream = open(&file.path());
    let other = stream.clone();
    append(&stream, 0..9, 900).await;
    assert_eq!(
        all(&stream, Destination::Stream).await.len(),
        9,
        "it is open for reads too"
    );
    let log = file.path().with_extension("db-wal");
    assert!(log.exists());
    stream.close().await;
    assert!(!log.exists(), "though another handle is there");
    let refused = other.writer().try_append(&[entry(9, 900)]).await;
    assert!(matches!(refused, Err(StreamError::Unreachable { .. })), "{refused:?}");
    other.close().await;
    assert_eq!(all(&open(&file.path()), Destination::Stream).await.len(), 9);
}
