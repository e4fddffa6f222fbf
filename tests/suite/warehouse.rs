//! The warehouse: what its tables hold after which events, whatever goes wrong on the way.
//!
//! `laws` knows only [`Warehouse`] and [`Store`]; an implementation passes by running all of it (`conformance!`) over
//! its own `Store`. `both` loads the same into two stores and compares everything.

mod both;
mod embedded_only;
mod events;
mod fuzz;
mod laws;
mod lives;
mod postgres_only;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use orderstream::warehouse::Warehouse;

use self::events::Sample;
use self::store::Answer;

/// A store of one's own with tables in it, and what happens to them from outside.
#[async_trait]
pub trait Store: Send + Sync {
    /// The warehouse in it.
    fn open(&self) -> Arc<dyn Warehouse>;
    /// What an analyst sees; tables and views go by their bare names.
    async fn query(&self, sql: &str) -> Answer;
    /// Changes rows behind the warehouse's back.
    async fn change(&self, sql: &str);
    /// Removes tables and views, as if the store had come back empty.
    async fn drop_tables(&self);
    /// Removes one table, and what depends on it.
    async fn drop_table(&self, table: &str);
    /// Makes the tables of version 2, as that release made them.
    fn version_2(&self) -> &'static str;
    /// Lists all columns, views and indexes as they are defined.
    fn definitions(&self) -> &'static str;
    /// What cannot be kept here, each with `secret` in it.
    fn poison(&self) -> Vec<Sample>;
}

/// Runs every law over a store.
macro_rules! conformance {
    ($name:ident, $store:expr) => {
        conformance! { $name, $store;
            an_order_fills_every_column
            a_plain_event_is_enough
            an_event_has_effects_once
            another_payload_under_a_known_id_is_told
            an_edited_row_stays_when_its_entry_comes_again
            a_webhook_without_a_time_is_known_when_it_comes_again
            a_deletion_marks_and_nothing_clears_it
            the_newest_word_on_a_refund_stands
            a_refund_of_a_test_order_stays_one
            daily_sales_add_up_by_currency_and_day_without_test_orders
            captured_orders_add_up
            captured_bodies_that_are_no_orders_have_rows
            own_bodies_of_these_shapes_have_their_figures
            captured_bodies_tell_the_rest
            a_final_status_of_a_transaction_stands
            payments_are_money_that_moved_in_the_shops_currency
            a_refund_without_id_in_two_currencies_counts_once_whether_or_not_its_order_is_known
            an_order_lays_out_what_else_it_says
            the_rest_is_of_the_newest_state_and_a_webhook_is_known
            a_line_says_on_which_day_it_came
            histories_give_shopifys_figures
            shopifys_books_take_the_place_of_what_is_derived
            the_ledger_adds_up_to_what_each_order_is_worth
            any_arrival_ends_in_the_same_state
            concurrent_loaders_of_the_same_batches_load_each_event_once
            poison_fails_its_batch_whole_and_names_no_content
            many_at_once_migrate_once_and_a_current_schema_is_left_alone
            known_events_repair_and_changed_ones_do_not
            history_is_read_page_by_page_and_gives_the_events_back
            one_order_is_found_by_id_and_name
            who_was_forgotten_stays_out_whoever_loads
            an_order_is_forgotten_without_its_customer
            check_says_that_tables_are_missing
            tables_that_vanished_are_made_again
            a_table_that_was_dropped_is_named
            a_newer_schema_is_taken_as_long_as_it_says_so
            version_2_is_brought_over_while_its_workers_still_load
        }
    };
    ($name:ident, $store:expr; $($law:ident)*) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                super::laws::$law(&$store).await;
            })*
        }
    };
}

conformance!(postgres, crate::harness::postgres::Database::migrated().await);
conformance!(embedded, super::store::WarehouseFile::migrated().await);
