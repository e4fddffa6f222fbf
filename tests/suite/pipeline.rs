//! The whole way, over the real binary: what is sent becomes rows, once.

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::ground::{Place, in_any_place};
use crate::harness::service::{Service, event};
use crate::harness::site::{PATIENCE, Site};

in_any_place!(webhooks_and_batches_become_rows);

async fn webhooks_and_batches_become_rows(place: impl Place) {
    let service = Service::start("run", &place.settings()).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    assert_eq!(service.deliver_order(1).await, Some(200), "a retry is taken as well");
    let batch = service.send_batch(&json!([event(2), event(3)])).await.unwrap();
    assert_eq!(batch.status(), 200);

    let report = service.settled(3).await;
    assert_eq!(
        (&report["stream_length"], &report["dead_letters"]),
        (&3.into(), &0.into())
    );
    let orders = "SELECT order_id, total_amount, item_count, avg_item_price FROM {}orders ORDER BY 1";
    assert_eq!(
        place.query(orders),
        ["1|20.5|2|10.25", "2|20.5|2|10.25", "3|20.5|2|10.25"]
    );
    let events = "SELECT source, count(*) FROM {}order_events GROUP BY 1 ORDER BY 1";
    assert_eq!(place.query(events), ["batch|2", "shopify|1"]);
    let sales = "SELECT currency, orders, gross, net FROM {}daily_sales WHERE shop = 'tests.myshopify.com'";
    assert_eq!(place.query(sales), ["EUR|1|20.5|20.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_the_four_basic_fields_becomes_a_row() {
    let site = Site::new().await;
    let _worker = Service::start("work", &site.settings()).await;
    site.produce(&event(4)).await;
    site.has_rows(1).await;
    site.is_settled().await;
    let row = site.sql("SELECT order_id, trim_scale(total_amount), source FROM orderstream.order_events");
    assert_eq!(row, "4|20.5|");
    assert_eq!(site.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_serves_and_two_that_work_share_it() {
    let site = Site::new().await;
    let settings = site.settings().with("ORDERSTREAM_READ_COUNT", "10");
    let service = Service::start("serve", &settings).await;
    let first = Service::start("work", &settings.with("CONSUMER_NAME", "first")).await;
    let second = Service::start(
        "work",
        &settings
            .with("CONSUMER_NAME", "second")
            .with("ORDERSTREAM_WORKERS", "2"),
    )
    .await;

    let orders: Vec<u64> = (1..=300).collect();
    for some in orders.chunks(30) {
        let answers = some.iter().map(|id| service.deliver_order(*id));
        assert!(
            futures_util::future::join_all(answers)
                .await
                .iter()
                .all(|status| *status == Some(200))
        );
    }
    site.has_rows(300).await;
    site.is_settled().await;
    assert_eq!(site.sql("SELECT count(*) FROM orderstream.orders"), "300");
    for worker in [&first, &second] {
        assert_eq!(worker.get(&worker.admin_url("/livez")).await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_is_read_by_each_process_and_loaded_once() {
    let site = Site::new().await;
    let settings = site.settings().with("ORDERSTREAM_PARTITIONS", "5");
    let service = Service::start("serve", &settings).await;
    let one = settings.with("CONSUMER_NAME", "one").with("ORDERSTREAM_WORKERS", "2");
    let mut one = Service::start("work", &one).await;
    let _two = Service::start("work", &settings.with("CONSUMER_NAME", "two")).await;
    let orders: Vec<u64> = (1..=300).collect();
    for (round, some) in orders.chunks(30).enumerate() {
        let answers = some.iter().map(|id| service.deliver_order(*id));
        let answers = futures_util::future::join_all(answers).await;
        assert!(answers.iter().all(|status| *status == Some(200)));
        if round == 4 {
            one.kill();
        }
    }
    site.has_rows(300).await;
    eventually("nothing is left", PATIENCE, async || {
        let health: Value = service.get(&service.url("/health")).await.ok()?.json().await.ok()?;
        let partitions = health["partitions"].as_array()?.clone();
        let is_done = |one: &Value| one["lag"] == 0 && one["pending"] == 0;
        (partitions.len() == 5 && partitions.iter().all(is_done)).then_some(())
    })
    .await;
    assert_eq!(site.sql("SELECT count(*) FROM orderstream.orders"), "300");
    let named = "SELECT count(DISTINCT split_part(stream_id, '@', 2)) FROM orderstream.order_events";
    assert_eq!(site.sql(named), "5");
    for log in ["orders_stream", "{orders_stream:1.204}"] {
        let length: u64 = site.redis.command(&["XLEN", log]).await;
        assert!(length > 20, "{log}: {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_worker_left_where_another_reads_now_is_loaded() {
    /// Reads a partition as the first worker, alone in its process, did before it was killed.
    const READ_AND_GO: &str = "
        redis.pcall('XGROUP', 'CREATE', KEYS[1], 'pipeline_workers', '0')
        redis.call('XREADGROUP', 'GROUP', 'pipeline_workers', 'one', 'COUNT', 100, 'STREAMS', KEYS[1], '>')
        return redis.call('XLEN', KEYS[1])";
    let site = Site::new().await;
    let settings = site.settings().with("ORDERSTREAM_PARTITIONS", "2");
    let settings = settings.with("CONSUMER_NAME", "one");
    let service = Service::start("serve", &settings).await;
    for id in 1..=20 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    for log in ["orders_stream", "{orders_stream:1.204}"] {
        let read: u64 = site.redis.command(&["EVAL", READ_AND_GO, "1", log]).await;
        assert!(read > 0, "{log}");
    }
    let _workers = Service::start("work", &settings.with("ORDERSTREAM_WORKERS", "2")).await;
    site.has_rows(20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slower_group_holds_trimming_and_the_cap_sheds() {
    const CAP: u64 = 60;
    let site = Site::new().await;
    let _: () = site
        .redis
        .command(&["XGROUP", "CREATE", "orders_stream", "slow", "0", "MKSTREAM"])
        .await;
    let settings = site.settings();
    let settings = settings
        .with("ORDERSTREAM_STREAM_MAXLEN", &CAP.to_string())
        .with("ORDERSTREAM_RETAIN_ACKED", "5");
    let service = Service::start("run", &settings).await;

    for id in 1..=CAP {
        assert_eq!(service.deliver_order(id).await, Some(200), "order {id}");
    }
    let shed = service
        .deliver(
            "orders/create",
            "one-more",
            crate::harness::service::order(999).to_string().as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(shed.status(), 503);
    assert!(shed.headers().contains_key("retry-after"));

    site.has_rows(CAP.try_into().unwrap()).await;
    site.is_settled().await;
    let held_by = eventually("health names the group", PATIENCE, async || {
        let health: Value = service.get(&service.url("/health")).await.ok()?.json().await.ok()?;
        health["trim_held_by"].as_str().map(str::to_owned)
    });
    assert_eq!(held_by.await, "slow");
    let length: u64 = site.redis.command(&["XLEN", "orders_stream"]).await;
    assert_eq!(length, CAP, "nothing is trimmed before the slower group acked it");

    let read = [
        "XREADGROUP",
        "GROUP",
        "slow",
        "reader",
        "COUNT",
        "1000",
        "STREAMS",
        "orders_stream",
        ">",
    ];
    let read: redis::streams::StreamReadReply = site.redis.command(&read).await;
    let ids: Vec<&str> = read
        .keys
        .iter()
        .flat_map(|key| &key.ids)
        .map(|entry| entry.id.as_str())
        .collect();
    assert_eq!(ids.len() as u64, CAP, "the slower group still gets every entry");
    let _: u64 = site
        .redis
        .command(&[&["XACK", "orders_stream", "slow"], &ids[..]].concat())
        .await;

    eventually("the shed order is taken", PATIENCE, async || {
        (service.deliver_order(1000).await == Some(200)).then_some(())
    })
    .await;
    site.has_rows(usize::try_from(CAP).unwrap() + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_heals() {
    let site = Site::new().await;
    let service = Service::start("run", &site.settings()).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    site.has_rows(1).await;

    let _: () = site.redis.command(&["FLUSHALL"]).await;
    eventually("orders are taken again", PATIENCE, async || {
        (service.deliver_order(2).await == Some(200)).then_some(())
    })
    .await;
    site.has_rows(2).await;
    site.is_settled().await;

    eventually("the loss is said", PATIENCE, async || {
        service.stderr().contains("lost entries").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_database_is_migrated_again() {
    let site = Site::new().await;
    let service = Service::start("run", &site.settings()).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    site.has_rows(1).await;
    site.is_settled().await;

    site.sql("DROP SCHEMA orderstream CASCADE");
    assert_eq!(service.deliver_order(2).await, Some(200));
    site.has_rows(1).await;
    site.is_settled().await;
    assert_eq!(site.dead_letters().await, 0);
}

/// Every node says that the warehouse is away, and none turns webhooks away for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_is_away_is_said_by_who_loads_into_it() {
    let site = Site::durable().await;
    let (running, serving) = (
        Service::start("run", &site.settings()).await,
        Service::start("serve", &site.settings()).await,
    );
    let judged = async |service: &Service| {
        let answer = service.get(&service.url("/health")).await.unwrap();
        // A stream that answers late is none of the warehouse's: it is looked at again.
        let accepts = answer.status() == 200;
        let report: Value = answer.json().await.unwrap();
        let mut checks = report["checks"].as_array().unwrap().iter();
        let check = checks.find(|check| check["name"] == "warehouse");
        (check.filter(|_| accepts).cloned(), report["status"].clone())
    };
    let is = async |status: &str| {
        eventually(&format!("the warehouse is {status}"), PATIENCE, async || {
            let (check, overall) = judged(&running).await;
            let check = check.filter(|check| check["status"] == status)?;
            Some((check["detail"].as_str()?.to_owned(), overall))
        })
        .await
    };
    is("healthy").await;
    site.cluster().kill();
    let (detail, overall) = is("warning").await;
    assert!(detail.starts_with("unreachable for "), "{detail}");
    assert_ne!(overall, "healthy");
    assert_eq!(running.deliver_order(1).await, Some(200));
    assert_eq!(running.get(&running.url("/readyz")).await.unwrap().status(), 200);
    site.cluster().restart().await;
    is("healthy").await;
    site.has_rows(1).await;
    // It never opens it: those who do tell.
    eventually("one that serves knows", PATIENCE, async || {
        judged(&serving).await.0.filter(|check| check["status"] == "healthy")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_the_warehouse_is_said_while_the_stream_is_away() {
    let mut site = Site::new().await;
    let service = Service::start("run", &site.settings()).await;
    site.redis.kill();
    eventually(
        "the figures are unknown, and the warehouse is there",
        PATIENCE,
        async || {
            let answer = service.get(&service.url("/health")).await.ok()?;
            let report: Value = answer.json().await.ok()?;
            let has = |name, status| {
                let mut checks = report["checks"].as_array()?.iter();
                checks.find(|check| check["name"] == name && check["status"] == status)
            };
            has("figures", "warning").and(has("warehouse", "healthy")).map(drop)
        },
    )
    .await;
}
