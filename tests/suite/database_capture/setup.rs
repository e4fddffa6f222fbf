//! What an operator prepares, and what is wrong with it.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::observed::metric;
use super::shop::{Events, LOGICAL, Shop, agrees, text};
use crate::harness::eventually;
use crate::harness::pgbouncer::PgBouncer;
use crate::harness::postgres_tls::{PASSWORD, tls_cluster};
use crate::harness::redis::RedisServer;
use crate::harness::service::Service;
use crate::harness::site::PATIENCE;

/// Runs a command that fails; answers what it printed.
fn fails(shop: &Shop, redis: &RedisServer, args: &[&str], code: i32, hint: &str) -> String {
    let output = shop.command(redis, args);
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{errors}");
    assert!(errors.contains(hint), "{args:?}: {errors}");
    out
}

fn source_is_named_after_the_database(shop: &Shop, redis: &RedisServer) {
    let named = format!("Shop-{}", shop.database);
    shop.cluster().sql("postgres", &format!("CREATE DATABASE \"{named}\""));
    shop.cluster().sql(&named, "CREATE TABLE orders (id int PRIMARY KEY)");
    let url = shop.cluster().url(&named);
    let settings = shop.settings(redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url);
    let guessed = settings.command(&["capture", "init"]).output().unwrap().stdout;
    let source = format!("source = \"shop_{}\"", shop.database);
    assert!(String::from_utf8(guessed).unwrap().contains(&source), "{source}");
}

fn keys_that_no_order_has_are_named(tried: &str) {
    let tried = Vec::from_iter(tried.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    assert_eq!(text(&tried[0]["order_id"]), "2", "{tried:?}");
    for (line, key) in tried[1..].iter().zip(["abc", "99"]) {
        assert_eq!(line["key"], key);
        assert_eq!(line["error"], "no order has this key");
    }
}

#[tokio::test]
async fn an_operator_prepares_tries_resyncs_and_drops() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.add(1..=3);
    let done = |args: &[&str]| {
        let output = shop.command(&redis, args);
        let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{args:?}: {out}{errors}");
        out
    };
    let sql = done(&["capture", "sql"]);
    assert!(
        sql.contains("CREATE PUBLICATION") && sql.contains("GRANT SELECT ON public.orders"),
        "{sql}"
    );
    let failed = |args: &[&str], code: i32, hint: &str| fails(&shop, &redis, args, code, hint);
    failed(&["capture", "init", "--table", "nope"], 78, "there is no table nope");
    source_is_named_after_the_database(&shop, &redis);
    let guessed = done(&["capture", "init"]);
    shop.map(&guessed);
    let tried = done(&["capture", "try", "--sample", "2"]);
    let events = Vec::from_iter(tried.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    assert_eq!(
        (events.len(), text(&events[0]["total_amount"])),
        (2, "1.1".to_owned()),
        "{guessed}{tried}"
    );
    assert_eq!(events[1]["items"].as_array().unwrap().len(), 2, "{guessed}");
    keys_that_no_order_has_are_named(&done(&["capture", "try", "02", "abc", "99"]));
    let tried = failed(&["capture", "try", "abc"], 1, "no order has such a key");
    assert_eq!(tried.lines().count(), 1, "{tried}");
    let mut capture = Service::start("capture", &shop.settings(&redis)).await;
    agrees(&shop, &redis).await;
    failed(&["capture", "resync", "1", "nosuch"], 1, "no order has the key nosuch");
    failed(&["capture", "resync", "--where", "id > 99"], 1, "no order matches");
    done(&["capture", "resync", "2"]);
    eventually("one order was read again", PATIENCE, async || {
        let events = Events::of(&redis).await;
        (events.types("2").len() == 2 && events.0.len() == 4).then_some(())
    })
    .await;
    let busy = shop.command(&redis, &["capture", "drop", "--yes"]);
    assert_eq!(busy.status.code(), Some(69), "{busy:?}");
    capture.signal(Signal::SIGTERM);
    capture.ended(PATIENCE).await;
    done(&["capture", "drop", "--yes"]);
    assert_eq!(
        shop.sql(&format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
            shop.slot()
        )),
        "0"
    );
    assert_eq!(
        redis
            .command::<u64>(&["EXISTS", &format!("orders_stream:capture:{}", shop.database)])
            .await,
        0
    );
}

#[tokio::test]
async fn what_cannot_work_is_one_clear_error_and_hurts_no_write_of_the_shop() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let mapping = shop.mapping();
    let refused = |hint: &str| {
        let output = shop.command(&redis, &["capture"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{hint}: {said}");
        assert!(said.contains(hint), "{hint}: {said}");
        assert_eq!(shop.sql("SELECT count(*) FROM pg_publication"), "0", "{hint}");
        said
    };
    let file = shop.folder.path().join("capture.toml");
    let file = file.to_str().unwrap();
    for (from, to, hint) in [
        (
            "AS total_amount",
            "AS total_ammount",
            "a column `total_ammount`, which no event has (did you mean `total_amount`?); a field of that name would be \
             lost, and `total_amount` is missing",
        ),
        (
            "Europe/Berlin",
            "Europe/Berln",
            "timezone: the source knows no zone \"Europe/Berln\" (did you mean `Europe/Berlin`?)",
        ),
        (
            "o.created_at",
            "o.created_at, 1 / 0 AS total_tax",
            "the query fails without any order",
        ),
        ("o.id AS key, ", "", "lacks the column `key`"),
        ("o.total /", "o.totl /", "column o.totl does not exist"),
        (
            "o.created_at",
            "o.created_at::timestamp AS created_at",
            "`created_at AT TIME ZONE 'UTC' AS created_at`",
        ),
        ("public.order_items", "public.lines", "there is no table public.lines"),
        (
            "key = \"order_id\"",
            "key = \"order\"",
            "the table public.order_items has no column order",
        ),
        ("[[watch]]", "[[wacht]]", "unknown field `wacht`"),
    ] {
        shop.map(&mapping.replacen(from, to, 1));
        let said = refused(hint);
        assert!(said.contains(file), "{hint}: {said}");
    }
    shop.map(&mapping);
    let slot = shop.slot();
    let other = |sql: &str| shop.cluster().sql("postgres", &format!("SELECT {sql}"));
    other(&format!("pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    refused("belongs to the database \"postgres\"");
    let checked = shop.command(&redis, &["check", "capture"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(78), "{said}");
    assert!(said.contains("belongs to the database \"postgres\""), "{said}");
    other(&format!("pg_drop_replication_slot('{slot}')"));
    shop.sql("ALTER TABLE order_items REPLICA IDENTITY DEFAULT");
    refused("ALTER TABLE order_items REPLICA IDENTITY FULL");
    shop.sql("ALTER TABLE order_items REPLICA IDENTITY FULL; ALTER TABLE orders DROP CONSTRAINT orders_pkey");
    refused("the replica identity of orders must hold {\"id\"}");
    shop.sql("INSERT INTO orders (id, total) VALUES (1, 1); UPDATE orders SET total = 2; DELETE FROM orders");
    std::fs::remove_file(Path::new(&shop.folder.path().join("capture.toml"))).unwrap();
    refused("orderstream capture init");
}

#[tokio::test]
async fn check_says_what_may_hurt_later_and_changes_nothing() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.sql(
        "INSERT INTO orders (id, total, divisor) SELECT n, n, least(n - 1, 1) FROM generate_series(1, 20000) n;
         INSERT INTO order_items (order_id, price) SELECT n, n FROM generate_series(1, 20000) n; ANALYZE",
    );
    let name = "coalesce((SELECT c.name FROM customers c WHERE c.id = o.customer_id), o.number) AS name";
    shop.map(&shop.mapping().replace("o.number AS name", name));
    let output = shop.command(&redis, &["check", "capture"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for hint in [
        "max_slot_wal_keep_size",
        "there is no publication yet",
        "the query reads all of public.order_items (20000 rows)",
        "the query reads public.customers, whose changes alone make no event",
        "the query answers no ",
        "1 of 100 sampled orders would be dead letters, the first for: ",
    ] {
        assert!(said.contains(hint), "{hint}: {said}");
    }
    assert_eq!(shop.sql("SELECT count(*) FROM pg_publication"), "0");
    let tried = shop.command(&redis, &["capture", "try", "1"]);
    assert_eq!(tried.status.code(), Some(78), "each order failed: {tried:?}");
}

#[tokio::test]
async fn the_printed_rights_are_enough() {
    rights_are_enough(&["capture", "sql"]).await;
    rights_are_enough(&["capture", "sql", "--only-keys"]).await;
}

async fn rights_are_enough(printed_by: &[&str]) {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let sql = String::from_utf8(shop.command(&redis, printed_by).stdout).unwrap();
    let role = format!("capture_{}", shop.database);
    // Its own role, so that tests do not meet, in one transaction; the query reads one table more than the mapping
    // names.
    let sql = sql.replace("orderstream_capture", &role).replace(" CONCURRENTLY", "");
    shop.sql(&sql.replace("<primary key>", "id"));
    shop.add(1..=2);
    let url = shop
        .cluster()
        .url(&shop.database)
        .replace("postgres://postgres@", &format!("postgres://{role}@"));
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url);
    let refused = settings.command(&["capture"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    let grant = format!("GRANT SELECT ON refunds TO {role}");
    assert!(said.contains(&grant), "{said}");
    shop.sql(&grant);
    // No policy lets anybody see a row: a query that respects it would find all orders deleted.
    shop.sql("ALTER TABLE orders ENABLE ROW LEVEL SECURITY");
    let refused = settings.command(&["capture"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains(&format!("run ALTER ROLE {role} BYPASSRLS")), "{said}");
    shop.sql(&format!("ALTER ROLE {role} BYPASSRLS"));
    let settings = settings.with("ORDERSTREAM_ADMIN_ADDR", "127.0.0.1:0");
    let capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    shop.add(3..=3);
    shop.sql("UPDATE order_items SET order_id = 1 WHERE order_id = 3; DELETE FROM order_items WHERE order_id = 2");
    agrees(&shop, &redis).await;

    // What is taken from it while it runs is said once, and that it captures only once it reads again.
    shop.sql(&format!("REVOKE SELECT ON order_items FROM {role}"));
    shop.add(4..=4);
    capture.says(&format!("GRANT SELECT ON order_items TO {role}")).await;
    let before = metric(&capture, "orderstream_capture_reconnects_total").await;
    eventually("it has tried again", PATIENCE, async || {
        capture.signal(Signal::SIGHUP);
        (metric(&capture, "orderstream_capture_reconnects_total").await > before + 1.0).then_some(())
    })
    .await;
    let counts =
        |capture: &Service| ["capturing changes", "capture stopped"].map(|said| capture.stderr().matches(said).count());
    assert_eq!(counts(&capture), [1, 1], "{}", capture.stderr());
    shop.sql(&format!("GRANT SELECT ON order_items TO {role}"));
    capture.signal(Signal::SIGHUP);
    agrees(&shop, &redis).await;
    shop.sql(&format!("DROP PUBLICATION {}", shop.slot()));
    shop.add(5..=5);
    capture.says("as the owner of the tables run: CREATE PUBLICATION").await;
    assert_eq!(counts(&capture)[1], 2, "{}", capture.stderr());
}

#[tokio::test]
async fn a_role_without_the_right_to_replicate_is_told_what_to_run() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let role = format!("reader_{}", shop.database);
    shop.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    let url = shop.cluster().url(&shop.database);
    let url = url.replace("postgres://postgres@", &format!("postgres://{role}@"));
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url);
    let refused = settings.command(&["capture"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("`orderstream capture sql` prints what"), "{said}");
}

#[tokio::test]
async fn a_pooler_may_stand_before_the_reads_and_not_before_the_changes() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    let url = shop.cluster().url(&shop.database);
    let Some(bouncer) = PgBouncer::start(&url, &shop.database).await else {
        return;
    };
    let pooled = shop
        .settings(&redis)
        .with("ORDERSTREAM_CAPTURE_DATABASE_URL", &bouncer.url());
    for command in ["capture", "check"] {
        let refused = pooled.command(&[command]).output().unwrap();
        let said = [refused.stdout, refused.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(refused.status.code(), Some(78), "{command}: {said}");
        assert!(said.contains("pooler"), "{command}: {said}");
        assert!(said.contains("ORDERSTREAM_CAPTURE_READ_URL"), "{command}: {said}");
    }
    shop.add(1..=3);
    let settings = shop
        .settings(&redis)
        .with("ORDERSTREAM_CAPTURE_READ_URL", &bouncer.url());
    let _capture = Service::start("capture", &settings).await;
    agrees(&shop, &redis).await;
    shop.add(4..=9);
    shop.sql("DELETE FROM orders WHERE id = 1");
    agrees(&shop, &redis).await;
}

#[tokio::test]
async fn changes_come_by_tls_from_the_server_of_that_name_and_no_other() {
    for (name, is_right) in [("127.0.0.1", true), ("db.example.com", false)] {
        let (cluster, files) = tls_cluster(&[name], &LOGICAL).await;
        let (shop, redis) = (Shop::of(cluster), RedisServer::start().await);
        shop.add(1..=3);
        let url = format!(
            "postgres://app:{PASSWORD}@127.0.0.1:{}/{}?sslmode=verify-full&channel_binding=require&sslrootcert={}",
            shop.cluster().port,
            shop.database,
            files.path().join("ca.pem").display()
        );
        let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url);
        if is_right {
            let _capture = Service::start("capture", &settings).await;
            agrees(&shop, &redis).await;
            let plain =
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app' AND NOT ssl";
            assert_eq!(shop.sql(plain), "0");
            let walsender = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
            assert_eq!(shop.sql(walsender), "t");
        } else {
            // It waits for an operator, and has not logged in.
            let capture = Service::start("capture", &settings).await;
            let said = capture.says("not valid for name").await;
            assert_eq!(shop.sql("SELECT count(*) FROM pg_replication_slots"), "0", "{said}");
            assert!(!said.contains("ss/w"), "{said}");
        }
    }
}

/// Each stands in a value of the shop's database, or in its password.
const HELD_OUT: [&str; 6] = [
    "Mustermann",
    "held-out-sku",
    "77001234",
    "held-out-key",
    "held-out-row",
    "hush",
];

#[tokio::test]
async fn no_value_of_the_shop_is_ever_logged() {
    let (shop, redis) = (Shop::new().await, RedisServer::start().await);
    shop.sql("ALTER TABLE orders ALTER id TYPE text; ALTER TABLE order_items ALTER order_id TYPE text");
    // Errors of PostgreSQL that quote what they met.
    let mapping = shop.mapping().replace(
        "round(o.total / o.divisor, 2)",
        "round(o.total / o.divisor, 2) + coalesce((CASE WHEN o.note LIKE 'text%' THEN o.note END)::numeric, 0)",
    );
    shop.map(&mapping);
    let url = shop.cluster().url(&shop.database);
    let url = url.replace("postgres://postgres@", "postgres://postgres:hush@");
    let settings = shop.settings(&redis).with("ORDERSTREAM_CAPTURE_DATABASE_URL", &url);
    let settings = settings.with("RUST_LOG", "trace");
    let mut capture = Service::start("capture", &settings).await;
    capture.says("the walk over the orders is finished").await;
    for row in [
        "('held-out-key-1', 'Erika Mustermann', 77001234, NULL, 1)",
        "('held-out-key-2', 'Erika Mustermann', 77001234, 'text held-out-row', 1)",
        "('held-out-key-3', 'Erika Mustermann', 77001234, NULL, 0)",
        "('held-out-key-4', repeat('held-out-row', 1000), 77001234, NULL, 1)",
    ] {
        shop.sql(&format!(
            "INSERT INTO orders (id, number, total, note, divisor) VALUES {row}"
        ));
    }
    shop.sql(
        "INSERT INTO order_items (order_id, sku, qty, price) VALUES ('held-out-key-1', 'held-out-sku', -1, 77001234)",
    );
    shop.sql("INSERT INTO outbox (payload) VALUES ('{\"held-out-row\": 77001234}'), ('\"held-out-row\"')");
    shop.sql("SELECT pg_logical_emit_message(true, 'orderstream', 'held-out-row {')");
    shop.sql("DELETE FROM orders WHERE id = 'held-out-key-4'");
    eventually("dead letters", PATIENCE, async || {
        (redis.command::<usize>(&["XLEN", "dead_letters"]).await >= 6).then_some(())
    })
    .await;
    shop.sql("ALTER TABLE orders RENAME COLUMN total TO held; UPDATE orders SET held = 2");
    capture.says("capture stopped: ").await;
    capture.signal(Signal::SIGTERM);
    capture.ended(PATIENCE).await;
    let tried = settings.command(&["capture", "try"]).output().unwrap();
    let said = capture.stderr() + &String::from_utf8_lossy(&tried.stderr);
    for held_out in HELD_OUT {
        let lines = Vec::from_iter(said.lines().filter(|line| line.contains(held_out)));
        assert!(lines.is_empty(), "{held_out} is logged: {lines:#?}");
    }
}
