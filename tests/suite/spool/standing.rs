//! What `status` says of a spool, whoever has it.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Place, are_spooled, depth_is, goes_direct};
use crate::harness::service::{Service, Settings};
use crate::harness::site::PATIENCE;

/// What `status` prints, and that it exits with that code.
fn status(settings: &Settings, code: i32, args: &[&str]) -> String {
    let output = settings.command(&[&["status"], args].concat()).output().unwrap();
    let [said, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(errors, "", "{said}");
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn json(settings: &Settings, code: i32) -> Value {
    serde_json::from_str(&status(settings, code, &["--json"])).unwrap()
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in:\n{text}")).trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_has_it_is_asked_and_after_it_the_file() {
    let mut place = Place::new().await;
    let settings = place.settings().with("ORDERSTREAM_HEALTH_AFTER", "1h");
    // That no worker has loaded the order has lasted long enough for the first process, and not for the second.
    let mut impatient = Service::start("serve", &settings.with("ORDERSTREAM_HEALTH_AFTER", "0s")).await;
    let last = goes_direct(&impatient, 1000).await;
    depth_is(&impatient, 0).await;
    assert_eq!(json(&settings, 69)["stream_length"], last - 1000);
    impatient.signal(Signal::SIGTERM);
    assert!(impatient.ended(PATIENCE).await.success());
    let mut service = Service::start("serve", &settings).await;
    let last = goes_direct(&service, last).await;
    depth_is(&service, 0).await;
    let report = json(&settings, 0);
    // Of a look that was taken for it, not of one before the order came.
    assert_eq!(report["stream_length"], last - 1000, "{report}");
    assert_eq!(
        (&report["spool_depth"], &report["breaker"]),
        (&0.into(), &"closed".into())
    );

    place.site.redis.kill();
    are_spooled(&service, 1..=20).await;
    let report = json(&settings, 0);
    assert_eq!(
        (&report["spool_depth"], &report["breaker"]),
        (&20.into(), &"open".into())
    );
    assert_eq!(report["spool_limit"], 1 << 30);
    assert_eq!(report["retry_budget_used"], 0.0, "nothing was refused");
    let text = status(&settings, 0, &[]);
    let spooled = line(&text, "spooled ");
    assert!(
        spooled.starts_with("20, ") && spooled.ends_with("of at most 1.00 GiB"),
        "{text}"
    );
    assert!(line(&text, "oldest spooled").ends_with('s'), "{text}");
    assert_eq!(line(&text, "breaker"), "open");
    assert_eq!(line(&text, "retry budget used"), "0.0 %");

    service.signal(Signal::SIGTERM);
    assert!(service.ended(PATIENCE).await.success());
    let text = status(&settings, 0, &[]);
    assert!(text.contains("20 events, and no process moves them"), "{text}");
    assert!(line(&text, "spooled ").starts_with("20, "), "{text}");
    let report = json(&settings, 0);
    assert_eq!((&report["spool_depth"], &report["breaker"]), (&20.into(), &Value::Null));

    place.site.redis.restart().await;
    // The command by itself looks once, and waits for nothing.
    assert_eq!(json(&settings, 69)["stream_length"], last - 1000);

    // Somebody has the folder and cannot be asked: the stream can.
    let held = std::fs::File::open(place.folder.path().join("owner.lock")).unwrap();
    held.lock().unwrap();
    let report = json(&settings, 69);
    assert_eq!(
        (&report["stream_length"], &report["spool_depth"]),
        (&(last - 1000).into(), &Value::Null)
    );
    assert!(status(&settings, 69, &[]).contains("its state is unknown"), "{report}");
}
