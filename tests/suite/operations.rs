//! What an operator does, with the real binary: over servers and over files, with the service running and without.

mod history;
mod letters;
mod many;
mod partitions;
mod privacy;
mod rollback;
mod storm;

use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::eventually;
use crate::harness::local::Local;
use crate::harness::service::{Service, Settings, TOKEN};
use crate::harness::site::{PATIENCE, Site};

/// A pipeline on servers or on files, and the questions that these tests ask of it.
enum Plant {
    Servers(Box<Site>),
    Files(Local),
}

impl Plant {
    async fn servers() -> Self {
        Self::Servers(Box::new(Site::new().await))
    }

    fn files() -> Self {
        Self::Files(Local::new())
    }

    fn settings(&self) -> Settings {
        let settings = match self {
            Self::Servers(site) => site.settings(),
            Self::Files(local) => local.settings(),
        };
        settings
            .with("ORDERSTREAM_MAX_DELIVERIES", "1")
            .with("ORDERSTREAM_CLAIM_IDLE", "4s")
            .with("ORDERSTREAM_STATEMENT_TIMEOUT", "3s")
    }

    async fn run(&self) -> Service {
        Service::start("run", &self.settings()).await
    }

    /// Exit code and all that was printed.
    fn says(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = ask(&patient(&self.settings()), args);
        let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out + &errors)
    }

    /// What a command answers with `--json`.
    fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        let output = ask(&patient(&self.settings()), &args);
        let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{args:?}: {out}{errors}");
        serde_json::from_str(&out).unwrap()
    }

    /// A query on the warehouse, `|` between columns, one line a row.
    fn sql(&self, sql: &str) -> String {
        match self {
            Self::Servers(site) => site.sql(&format!("SET search_path = orderstream; {sql}")),
            Self::Files(local) => local.sql(sql).join("\n"),
        }
    }

    /// Changes the warehouse behind everybody's back.
    fn change(&self, sql: &str) {
        match self {
            Self::Servers(site) => drop(site.sql(&format!("SET search_path = orderstream; {sql}"))),
            Self::Files(local) => {
                let file = rusqlite::Connection::open(local.data_dir().join("warehouse.db")).unwrap();
                file.busy_timeout(PATIENCE).unwrap();
                file.execute_batch(sql).unwrap();
            }
        }
    }

    /// The warehouse refuses events of that order until [`Self::accept`].
    fn refuse(&self, order: u64) {
        match self {
            Self::Servers(_) => self.change(&format!(
                "ALTER TABLE order_events ADD CONSTRAINT refused CHECK (order_id <> '{order}')"
            )),
            Self::Files(_) => self.change(&format!(
                "CREATE TRIGGER refused BEFORE INSERT ON order_events WHEN NEW.order_id = '{order}' \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )),
        }
    }

    /// The warehouse refuses every new event until [`Self::accept`].
    fn refuse_all(&self) {
        match self {
            Self::Servers(_) => {
                self.change("ALTER TABLE order_events ADD CONSTRAINT refused CHECK (event_id IS NULL) NOT VALID");
            }
            Self::Files(_) => self.change(
                "CREATE TRIGGER refused BEFORE INSERT ON order_events BEGIN SELECT RAISE(ABORT, 'refused'); END",
            ),
        }
    }

    fn accept(&self) {
        match self {
            Self::Servers(_) => self.change("ALTER TABLE order_events DROP CONSTRAINT refused"),
            Self::Files(_) => self.change("DROP TRIGGER refused"),
        }
    }

    async fn has_rows(&self, count: usize) {
        match self {
            Self::Servers(site) => site.has_rows(count).await,
            Self::Files(local) => local.has_rows(count).await,
        }
    }

    async fn answers(&self, sql: &str, expected: &str) {
        eventually(&format!("{sql}: {expected}"), PATIENCE, async || {
            (self.sql(sql) == expected).then_some(())
        })
        .await;
    }
}

/// For a command that has to succeed on a busy machine.
fn patient(settings: &Settings) -> Settings {
    settings
        .with("ORDERSTREAM_CLAIM_IDLE", "60s")
        .with("ORDERSTREAM_STATEMENT_TIMEOUT", "30s")
}

fn ask(settings: &Settings, args: &[&str]) -> Output {
    settings.with("RUST_LOG", "warn").command(args).output().unwrap()
}

/// What the admin API answers.
async fn api(service: &Service, path: &str) -> Value {
    let client = reqwest::Client::new();
    let answer = client
        .get(service.admin_url(path))
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

/// What the admin API answers to a request.
async fn tell(service: &Service, path: &str, request: &Value) -> Value {
    let asked = reqwest::Client::new().post(service.admin_url(path)).bearer_auth(TOKEN);
    let answer = asked.json(request).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

/// Waits until our group has read and acked everything, as of now.
async fn is_settled(service: &Service) {
    eventually("nothing is unread or pending", PATIENCE, async || {
        let found = api(service, "/api/consumers").await;
        let group = found["groups"].as_array()?.iter().find(|group| group["ours"] == true)?;
        (group["lag"] == 0 && group["pending"] == 0).then_some(())
    })
    .await;
}

/// Waits until the stream holds so many entries, as of now.
async fn holds(service: &Service, entries: usize) {
    eventually(&format!("{entries} entries"), PATIENCE, async || {
        let found = api(service, "/api/events").await;
        (found["entries"].as_array()?.len() == entries).then_some(())
    })
    .await;
}

async fn stop(mut service: Service) {
    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
}

/// Runs every story over servers and over files.
macro_rules! stories {
    ($module:ident: $($story:ident)*) => {
        $(mod $story {
            use super::{Plant, $module};

            #[tokio::test(flavor = "multi_thread")]
            async fn on_servers() {
                $module::$story(Plant::servers().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_files() {
                $module::$story(Plant::files()).await;
            }
        })*
    };
}

stories! { letters:
    what_was_quarantined_is_seen_by_cause_and_discarded
    lists_of_letters_follow_the_log
    a_letter_carries_its_order_and_shop
    a_trace_finds_the_letters_about_an_order
    what_the_warehouse_refused_lands_once_it_is_mended
    a_reused_webhook_id_does_not_keep_an_order_out
    an_id_that_the_door_forgot_does_not_keep_an_order_out
    without_dedupe_a_used_id_does_not_keep_an_order_out
    an_event_named_as_a_letter_does_not_cost_it
    a_name_from_outside_does_nothing_on_a_terminal
}

stories! { history:
    a_replay_repairs_and_copies_nothing
    what_the_stream_no_longer_has_comes_from_the_warehouse
    what_neither_has_is_said
    what_is_gone_behind_a_pending_entry_comes_from_the_warehouse
    a_stream_that_was_emptied_does_not_hide_the_warehouse
    a_rebuild_repairs_while_the_service_runs
    a_run_of_many_steps_is_written_down_as_one
    a_paused_group_reads_nothing_until_it_is_resumed
    the_sales_of_a_day_stand_beside_those_of_a_week_before
    a_trace_shows_the_whole_way_of_an_order
    a_trace_shows_each_entry_of_an_event
}

stories! { many:
    a_run_that_is_killed_goes_on_and_loads_each_event_once
    a_trace_tells_every_entry_and_says_what_it_leaves_out
}

stories! { privacy:
    a_privacy_request_is_an_event_of_ids
    a_forgotten_customer_is_in_no_store_and_does_not_come_back
    a_privacy_request_waits_or_is_met_at_once
    a_body_of_another_shop_is_quarantined
    versions_that_end_and_events_that_are_no_webhooks_are_said
}

stories! { rollback:
    what_a_warehouse_that_was_put_back_lacks_is_said_and_replayed
    what_need_not_be_in_the_warehouse_is_not_missing
}

stories! { storm:
    a_storm_is_answered_as_it_should_be_and_lands
    what_did_not_land_is_found
}
