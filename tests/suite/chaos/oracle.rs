//! The oracle: compares the book with what is in the warehouse and in the dead letters, and knows nothing of how the
//! service works. An event is recognized by a marker in its content, never by an id that the service made.

use std::collections::{BTreeMap, BTreeSet};

use super::event;
use super::journal::{Stories, Story};

/// Where everything ended.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    pub rows: Vec<Row>,
    pub letters: Vec<Letter>,
    pub orders: Vec<OrderState>,
}

/// One row of `order_events`.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// By its content.
    pub event: Option<u64>,
    pub event_id: String,
    pub order: String,
    /// As [`event::values`].
    pub values: String,
    /// Digest of the kept body.
    pub body: Option<String>,
}

/// One dead letter.
#[derive(Debug, Clone, Default)]
pub struct Letter {
    pub event: Option<u64>,
    pub event_id: String,
    /// `original_stream original_id`: letters of one origin are one. Blank for what was quarantined at the door.
    pub origin: String,
    pub error: String,
    pub body: Option<String>,
}

/// One row of `orders`, with the number of its lines.
#[derive(Debug, Clone, Default)]
pub struct OrderState {
    pub order: String,
    pub last_event_id: String,
    pub lines: usize,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged and nowhere to be found.
    pub lost: BTreeSet<u64>,
    /// Everything else that breaks a promise.
    pub differences: Vec<String>,
}

impl Verdict {
    /// Panics with all that was found, unless it is nothing.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.differences.is_empty()
    }
}

/// Compares.
pub fn judge(stories: &Stories, ends: &Ends) -> Verdict {
    let mut verdict = Verdict::default();
    let differences = &mut verdict.differences;
    let mut rows: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for row in &ends.rows {
        match row.event.filter(|number| stories.contains_key(number)) {
            Some(number) => rows.entry(number).or_default().push(row),
            None => differences.push(format!("a stranger in the warehouse: {}", row.event_id)),
        }
    }
    let mut letters: BTreeMap<u64, BTreeMap<&str, &Letter>> = BTreeMap::new();
    for letter in &ends.letters {
        match letter.event.filter(|number| stories.contains_key(number)) {
            Some(number) => {
                // Letters without an origin were written once each, so each counts.
                let origin = if letter.origin.trim().is_empty() {
                    &letter.event_id
                } else {
                    &letter.origin
                };
                let before = letters.entry(number).or_default().insert(origin, letter);
                if before.is_some() && letter.origin.trim().is_empty() {
                    differences.push(format!("event {number} is in quarantine twice"));
                }
            }
            None => differences.push(format!("a stranger in the dead letters: {}", letter.event_id)),
        }
    }
    for (number, story) in stories {
        let rows = rows.get(number).map_or(&[][..], Vec::as_slice);
        let letters: Vec<&Letter> = letters
            .get(number)
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        if story.is_taken() && rows.is_empty() && letters.is_empty() {
            verdict.lost.insert(*number);
        }
        let found = of_one(story, rows, &letters);
        differences.extend(found.into_iter().map(|what| format!("event {number}: {what}")));
    }
    differences.extend(newest_states(ends));
    verdict
}

/// What is wrong with one event.
fn of_one(story: &Story, rows: &[&Row], letters: &[&Letter]) -> Vec<String> {
    let mut found: Vec<String> = story.answers.iter().filter_map(|answer| answer.wrong.clone()).collect();
    if rows.len() + letters.len() > 1 {
        found.push(format!(
            "is there {} times in the warehouse and {} times in the dead letters",
            rows.len(),
            letters.len()
        ));
    }
    if story.expected.door.is_dead_end() && !rows.is_empty() {
        found.push("is no event and is in the warehouse".to_owned());
    }
    for letter in letters {
        if !story.expected.door.is_dead_end() {
            found.push(format!("is a good event and is a dead letter: {}", letter.error));
        }
        if letter.error.is_empty() {
            found.push("is a dead letter without a reason".to_owned());
        }
    }
    let bodies = rows
        .iter()
        .map(|row| &row.body)
        .chain(letters.iter().map(|letter| &letter.body));
    if bodies.into_iter().any(|body| *body != story.expected.body) {
        found.push("its body is not the one that was sent".to_owned());
    }
    for row in rows {
        if row.values != story.expected.values {
            found.push(format!("sent {}, found {}", story.expected.values, row.values));
        }
    }
    let ids = rows
        .iter()
        .map(|row| &row.event_id)
        .chain(letters.iter().map(|letter| &letter.event_id));
    let ids: BTreeSet<&String> = ids.collect();
    for answered in story.answers.iter().filter_map(|answer| answer.event_id.as_ref()) {
        if !ids.is_empty() && !ids.contains(answered) {
            found.push(format!("was answered the id {answered}, which is not where it ended"));
        }
    }
    found
}

/// Every order shows the newest of its events, with that one's lines.
fn newest_states(ends: &Ends) -> Vec<String> {
    let mut newest: BTreeMap<&str, &Row> = BTreeMap::new();
    for row in &ends.rows {
        let known = newest.entry(&row.order).or_insert(row);
        if known.event < row.event {
            *known = row;
        }
    }
    let mut found = Vec::new();
    for state in &ends.orders {
        match newest.remove(state.order.as_str()) {
            None => found.push(format!("order {} has no event", state.order)),
            Some(row) if row.event_id != state.last_event_id => found.push(format!(
                "order {} shows {}, and the newest is {}",
                state.order, state.last_event_id, row.event_id
            )),
            Some(row) if lines(&row.values) != state.lines => {
                found.push(format!(
                    "order {} has {} lines: {}",
                    state.order, state.lines, row.values
                ));
            }
            Some(_) => {}
        }
    }
    found.extend(
        newest
            .keys()
            .map(|order| format!("order {order} has events and no state")),
    );
    found
}

fn lines(values: &str) -> usize {
    let items = values.rsplit('|').next().unwrap_or_default();
    items.split(';').filter(|item| !item.is_empty()).count()
}

/// The oracle can fail: made-up books and ends, one fault each.
mod proof {
    use super::super::event::{Door, Expected};
    use super::super::journal::Answer;
    use super::*;

    const TAKEN: u64 = 0;
    const REFUSED: u64 = 1;
    const QUARANTINED: u64 = 2;

    fn answer(taken: bool, event_id: &str) -> Answer {
        Answer {
            taken,
            word: if taken { "accepted" } else { "503" }.to_owned(),
            event_id: Some(event_id.to_owned()),
            wrong: None,
        }
    }

    fn story(door: Door, answers: Vec<Answer>) -> Story {
        let expected = Expected {
            door,
            values: "order.created|o|c|1.00|EUR|a*1@1.00".to_owned(),
            body: Some("digest".to_owned()),
        };
        Story { expected, answers }
    }

    /// One acknowledged event, one that was never answered with 2xx and is there all the same, one in quarantine.
    fn sound() -> (Stories, Ends) {
        let stories = Stories::from([
            (
                TAKEN,
                story(Door::Webhook, vec![answer(false, "e0"), answer(true, "e0")]),
            ),
            (REFUSED, story(Door::Webhook, vec![answer(false, "e1")])),
            (QUARANTINED, story(Door::Unusable, vec![answer(true, "e2")])),
        ]);
        let row = |event: u64| Row {
            event: Some(event),
            event_id: format!("e{event}"),
            order: "o".to_owned(),
            values: "order.created|o|c|1.00|EUR|a*1@1.00".to_owned(),
            body: Some("digest".to_owned()),
        };
        let ends = Ends {
            rows: vec![row(TAKEN), row(REFUSED)],
            letters: vec![Letter {
                event: Some(QUARANTINED),
                event_id: "e2".to_owned(),
                origin: " ".to_owned(),
                error: "why".to_owned(),
                body: Some("digest".to_owned()),
            }],
            orders: vec![OrderState {
                order: "o".to_owned(),
                last_event_id: "e1".to_owned(),
                lines: 1,
            }],
        };
        (stories, ends)
    }

    #[test]
    fn what_is_sound_passes() {
        let (mut stories, mut ends) = sound();
        assert!(judge(&stories, &ends).is_clean(), "{:?}", judge(&stories, &ends));
        // Not a loss: nobody was told that it is safe.
        ends.rows.pop();
        ends.orders[0].last_event_id = "e0".to_owned();
        assert!(judge(&stories, &ends).is_clean(), "{:?}", judge(&stories, &ends));
        // A dead letter may repeat.
        stories.get_mut(&QUARANTINED).unwrap().expected.door = Door::Poison;
        ends.letters[0].origin = "stream 1-1".to_owned();
        ends.letters.push(ends.letters[0].clone());
        assert!(judge(&stories, &ends).is_clean(), "{:?}", judge(&stories, &ends));
    }

    #[test]
    fn losses_are_found() {
        let (stories, mut ends) = sound();
        ends.rows.remove(0);
        assert_eq!(judge(&stories, &ends).lost, BTreeSet::from([TAKEN]));
        let (stories, mut ends) = sound();
        ends.letters.clear();
        assert_eq!(judge(&stories, &ends).lost, BTreeSet::from([QUARANTINED]));
    }

    #[test]
    fn every_other_fault_is_found() {
        type Fault = (&'static str, fn(&mut Stories, &mut Ends));
        let faults: [Fault; 12] = [
            ("2 times in the warehouse", |_, ends| {
                ends.rows.push(ends.rows[0].clone())
            }),
            ("2 times in the warehouse", |_, ends| {
                ends.rows.push(ends.rows[1].clone())
            }),
            ("in quarantine twice", |_, ends| {
                ends.letters.push(ends.letters[0].clone())
            }),
            ("a stranger in the warehouse", |_, ends| ends.rows[0].event = None),
            ("a stranger in the dead letters", |_, ends| {
                ends.letters[0].event = Some(77)
            }),
            ("is no event and is in the warehouse", |_, ends| {
                ends.rows[0].event = Some(QUARANTINED)
            }),
            ("is a good event and is a dead letter", |_, ends| {
                ends.letters[0].event = Some(TAKEN)
            }),
            ("without a reason", |_, ends| ends.letters[0].error.clear()),
            ("its body is not", |_, ends| {
                ends.rows[0].body = Some("another".to_owned())
            }),
            ("sent order.created|o|c|1.00", |_, ends| {
                ends.rows[0].values = ends.rows[0].values.replace("1.00", "1.01");
            }),
            ("shows e0, and the newest is e1", |_, ends| {
                ends.orders[0].last_event_id = "e0".to_owned();
            }),
            ("status 400", |stories, _| {
                stories.get_mut(&TAKEN).unwrap().answers[0].wrong = Some("status 400".to_owned());
            }),
        ];
        for (expected, spoil) in faults {
            let (mut stories, mut ends) = sound();
            spoil(&mut stories, &mut ends);
            let found = judge(&stories, &ends).differences;
            assert!(
                found.iter().any(|what| what.contains(expected)),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn numbers_are_read_from_content_only() {
        assert_eq!(event::number_in("x chaos-12. y"), Some(12));
        assert_eq!(event::number_in("x chaos-. y"), None);
        assert_eq!(event::number_in("nothing"), None);
    }
}
