//! A warehouse that lacks what was loaded: an older copy, put back by somebody or left by a crash.

use super::*;
use crate::harness::service::order;

const COMPARED: &str = "the warehouse has all events that were acked";

/// What health says of rows that are gone; none where it says nothing.
async fn loss(service: &Service) -> Option<Value> {
    service.health_check("warehouse_loss").await
}

async fn has_lost(service: &Service, count: u64) -> String {
    let check = eventually("health says what is missing", PATIENCE, async || loss(service).await).await;
    let detail = check["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("{count} events")), "{detail}");
    assert_eq!(check["status"], "critical");
    detail.to_owned()
}

pub async fn what_a_warehouse_that_was_put_back_lacks_is_said_and_replayed(plant: Plant) {
    let service = plant.run().await;
    service.says(COMPARED).await;
    for id in 1..=12 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    plant.has_rows(12).await;
    is_settled(&service).await;
    stop(service).await;
    plant.change("DELETE FROM order_events WHERE CAST(order_id AS int) > 6");

    let service = plant.run().await;
    has_lost(&service, 6).await;
    let log = service
        .says("6 events that were loaded and acked are not in the warehouse")
        .await;
    assert!(log.contains("ERROR"), "{log}");
    if let Plant::Servers(_) = plant {
        let other = Service::start("serve", &plant.settings()).await;
        has_lost(&other, 6).await;
    }
    assert_eq!(service.deliver_order(13).await, Some(200));
    plant.has_rows(7).await;
    stop(service).await;

    let service = plant.run().await;
    let detail = has_lost(&service, 6).await;
    let (_, command) = detail.split_once("`orderstream ").unwrap();
    let (command, _) = command.split_once('`').unwrap();
    let args: Vec<&str> = command.split(' ').chain(["--yes"]).collect();
    let (code, said) = plant.says(&args);
    assert_eq!(code, Some(0), "{args:?}: {said}");
    plant.has_rows(13).await;
    eventually("health says no more of it", PATIENCE, async || {
        loss(&service).await.is_none().then_some(())
    })
    .await;
    assert_eq!(plant.sql("SELECT count(*) FROM orders"), "13");
}

pub async fn what_need_not_be_in_the_warehouse_is_not_missing(plant: Plant) {
    let settings = plant.settings().with("ORDERSTREAM_DEDUPE_BY", "off");
    let service = Service::start("run", &settings).await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    plant.has_rows(1).await;
    plant.refuse(7);
    for id in [2, 3, 7, 3, 4] {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    let other = order(20).to_string();
    let same_id = service.deliver("orders/create", "webhook-2", other.as_bytes());
    assert_eq!(same_id.await.unwrap().status(), 200);
    let thin = service.deliver("orders/delete", "thin", br#"{"id":4}"#);
    assert_eq!(thin.await.unwrap().status(), 200);
    let strange = service.deliver("products/create", "strange", b"{}");
    assert_eq!(strange.await.unwrap().status(), 200);
    plant.has_rows(5).await;
    eventually("three are dead letters", PATIENCE, async || {
        (api(&service, "/api/dead-letters/groups").await["looked_at"] == 3).then_some(())
    })
    .await;
    is_settled(&service).await;
    plant.json(&["dead-letters", "discard", "--all", "--yes"]);
    let again = order(7).to_string();
    let refused = service.deliver("orders/create", "again", again.as_bytes());
    assert_eq!(refused.await.unwrap().status(), 200);
    assert_eq!(service.deliver_order(5).await, Some(200));
    plant.has_rows(6).await;
    is_settled(&service).await;
    stop(service).await;
    plant.change("DELETE FROM order_events WHERE order_id = '1'");

    let service = Service::start("run", &settings).await;
    service.says(COMPARED).await;
    assert_eq!(loss(&service).await, None);
}

/// The write-ahead log is lost over a crash: what stood only there is gone with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_write_ahead_log_is_noticed() {
    let plant = Plant::files();
    let Plant::Files(local) = &plant else { unreachable!() };
    let mut service = plant.run().await;
    assert_eq!(service.deliver_order(1).await, Some(200));
    plant.has_rows(1).await;
    let file = local.data_dir().join("warehouse.db");
    rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .unwrap();
    for id in 2..=80 {
        assert_eq!(service.deliver_order(id).await, Some(200));
    }
    plant.has_rows(80).await;
    is_settled(&service).await;
    service.kill();
    for end in ["-wal", "-shm"] {
        let mut log = file.clone().into_os_string();
        log.push(end);
        std::fs::remove_file(log).unwrap();
    }
    let service = plant.run().await;
    has_lost(&service, 79).await;
    let (code, said) = plant.says(&["replay", "--all", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    plant.has_rows(80).await;
    eventually("health says no more of it", PATIENCE, async || {
        loss(&service).await.is_none().then_some(())
    })
    .await;
}
