//! Thousands of webhooks while every process is killed in turn with SIGKILL. `chaos/` has every other fault.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::harness::eventually;
use crate::harness::ports::reserved_port;
use crate::harness::service::{self, Service, Settings};
use crate::harness::site::Site;

const CLIENTS: usize = 16;
const WEBHOOKS: usize = 4_000;
const VICTIMS: usize = 5;
const ROUNDS: usize = 3 * VICTIMS;
/// Far beyond what each step takes; 4,000 webhooks take their time on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Sends what it is given a permit for until it is acknowledged, as Shopify does: any answer but 2xx comes again.
struct Clients {
    url: String,
    http: reqwest::Client,
    permits: Semaphore,
    next: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl Clients {
    async fn run(&self) {
        loop {
            let Ok(permit) = self.permits.acquire().await else {
                return;
            };
            permit.forget();
            let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
            if id > WEBHOOKS {
                return;
            }
            if id.is_multiple_of(10) {
                tokio::join!(self.until_acknowledged(id), self.until_acknowledged(id));
            } else {
                self.until_acknowledged(id).await;
            }
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn until_acknowledged(&self, id: usize) {
        let id = u64::try_from(id).unwrap();
        let body = service::order(id).to_string();
        eventually("the webhook is acknowledged", LIMIT, async || {
            let request = service::webhook(
                &self.http,
                &self.url,
                "orders/create",
                &format!("webhook-{id}"),
                body.as_bytes(),
            );
            request
                .send()
                .await
                .ok()
                .filter(|answer| answer.status().is_success())
                .map(drop)
        })
        .await;
    }
}

/// All that runs, so that each can be killed and started again.
struct Plant {
    site: Site,
    settings: Settings,
    services: [(&'static str, Service); 3],
}

impl Plant {
    async fn start() -> Self {
        let site = Site::durable().await;
        let port = reserved_port();
        let settings = site
            .settings()
            .with("ORDERSTREAM_LISTEN_ADDR", &format!("127.0.0.1:{port}"))
            .with("ORDERSTREAM_READ_COUNT", "50");
        let services = [
            ("serve", Service::start("serve", &settings).await),
            ("work", Service::start("work", &settings).await),
            ("work", Service::start("work", &settings).await),
        ];
        Self {
            site,
            settings,
            services,
        }
    }

    /// SIGKILL, and a new start.
    async fn kill(&mut self, victim: usize) {
        match victim {
            0 => {
                self.site.redis.kill();
                self.site.redis.restart().await;
            }
            1 => {
                self.site.cluster().kill();
                self.site.cluster().restart().await;
            }
            _ => {
                let (command, service) = &mut self.services[victim - 2];
                service.kill();
                *service = Service::start_unready(command, &self.settings).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_of_everything_in_turn_loses_and_doubles_nothing() {
    let mut plant = Plant::start().await;
    let clients = Clients {
        url: plant.services[0].1.url(""),
        http: reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap(),
        permits: Semaphore::new(0),
        next: AtomicUsize::new(0),
        acknowledged: AtomicUsize::new(0),
    };
    // One task for all, since what a test waits with is not `Send`.
    let sending = join_all((0..CLIENTS).map(|_| clients.run()));
    let killing = async {
        // Each round lets a share of the webhooks go and kills one process in the middle of it.
        for round in 0..ROUNDS {
            let share = WEBHOOKS * (round + 1) / ROUNDS - WEBHOOKS * round / ROUNDS;
            let half_way = clients.acknowledged.load(Ordering::Relaxed) + share / 2;
            clients.permits.add_permits(share);
            eventually("half of the round is acknowledged", LIMIT, async || {
                (clients.acknowledged.load(Ordering::Relaxed) >= half_way).then_some(())
            })
            .await;
            plant.kill(round % VICTIMS).await;
        }
        clients.permits.add_permits(CLIENTS);
    };
    tokio::join!(sending, killing);

    eventually("every order is in the warehouse", LIMIT, async || {
        (plant
            .site
            .sql("SELECT count(DISTINCT order_id) FROM orderstream.order_events")
            == WEBHOOKS.to_string())
        .then_some(())
    })
    .await;
    plant.site.is_settled().await;
    assert_eq!(
        plant.site.sql("SELECT count(*) FROM orderstream.order_events"),
        WEBHOOKS.to_string()
    );
    assert_eq!(
        plant.site.sql("SELECT count(*) FROM orderstream.orders"),
        WEBHOOKS.to_string()
    );
    assert_eq!(
        plant.site.sql("SELECT count(*) FROM orderstream.order_items"),
        WEBHOOKS.to_string()
    );
    let ids = plant.site.sql("SELECT order_id FROM orderstream.orders");
    let expected: BTreeSet<String> = (1..=WEBHOOKS).map(|id| id.to_string()).collect();
    assert_eq!(ids.lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    assert_eq!(plant.site.dead_letters().await, 0);
}
