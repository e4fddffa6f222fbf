//! The oracle's book: what each client is about to send and what it was answered. Every line is on disk (fsynced)
//! before the client goes on; lines that come together share an fsync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::event::Expected;

/// One line of the book.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Line {
    /// About to be sent (again).
    Sent { event: u64, expected: Expected },
    /// Answered, or not.
    Answered { event: u64, answer: Answer },
}

/// What a client was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its sender need not send again.
    pub taken: bool,
    /// The status of a 2xx, else the HTTP status, else what happened instead of an answer.
    pub word: String,
    pub event_id: Option<String>,
    /// What breaks the contract about the answer itself.
    pub wrong: Option<String>,
}

/// All that is known of one event.
#[derive(Debug, Clone)]
pub struct Story {
    pub expected: Expected,
    pub answers: Vec<Answer>,
}

impl Story {
    pub fn is_taken(&self) -> bool {
        self.answers.iter().any(|answer| answer.taken)
    }
}

/// The story of every event that was sent, by number.
pub type Stories = BTreeMap<u64, Story>;

type Waiting = (String, oneshot::Sender<()>);

pub struct Journal {
    lines: Option<mpsc::Sender<Waiting>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    pub fn create(path: &Path) -> Self {
        let file = File::create_new(path).unwrap();
        let (lines, waiting) = mpsc::channel();
        Self {
            lines: Some(lines),
            writer: Some(std::thread::spawn(|| write_all(file, waiting))),
        }
    }

    /// Answers when the lines are on disk.
    pub async fn write(&self, lines: &[Line]) {
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(line).unwrap());
            text.push('\n');
        }
        let (done, is_done) = oneshot::channel();
        self.lines.as_ref().unwrap().send((text, done)).unwrap();
        is_done.await.unwrap();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.lines.take());
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

fn write_all(mut file: File, waiting: mpsc::Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let together: Vec<Waiting> = std::iter::once(first).chain(waiting.try_iter()).collect();
        for (text, _) in &together {
            file.write_all(text.as_bytes()).unwrap();
        }
        file.sync_data().unwrap();
        for (_, done) in together {
            // A client that was aborted does not wait.
            let _ = done.send(());
        }
    }
}

/// Reads the book from disk.
pub fn read(path: &Path) -> Stories {
    stories(std::fs::read_to_string(path).unwrap().lines())
}

fn stories<'a>(lines: impl Iterator<Item = &'a str>) -> Stories {
    let mut stories = Stories::new();
    for line in lines {
        match serde_json::from_str(line).unwrap() {
            Line::Sent { event, expected } => {
                let story = stories.entry(event).or_insert_with(|| Story {
                    expected: expected.clone(),
                    answers: Vec::new(),
                });
                assert_eq!(story.expected, expected, "event {event} was sent with two contents");
            }
            Line::Answered { event, answer } => {
                let story = stories.get_mut(&event).expect("an answer to what was not sent");
                story.answers.push(answer);
            }
        }
    }
    stories
}

#[tokio::test]
async fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = Journal::create(&path);
    let answer = Answer {
        taken: true,
        word: "accepted".to_owned(),
        event_id: Some("e".to_owned()),
        wrong: None,
    };
    for number in 0..3 {
        let expected = super::event::sendable(1, number).expected;
        journal
            .write(&[Line::Sent {
                event: number,
                expected,
            }])
            .await;
    }
    journal
        .write(&[Line::Answered {
            event: 1,
            answer: answer.clone(),
        }])
        .await;
    let stories = read(&path);
    assert_eq!(stories.len(), 3);
    assert_eq!(stories[&1].answers, [answer]);
    assert!(stories[&1].is_taken() && !stories[&2].is_taken());
}
