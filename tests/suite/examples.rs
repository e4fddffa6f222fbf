//! The files of `examples/`, run as their first lines say. (Cargo compiles those in Rust.)

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::harness::node::{has_node, ioredis};
use crate::harness::python::python;
use crate::harness::service::{SECRET, Service, TOKEN};
use crate::harness::site::Site;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// The program with that example, away from any folder whose modules it could find by chance.
fn run(program: impl AsRef<Path>, arguments: &[&str], name: &str) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .args(arguments)
        .arg(example(name))
        .current_dir(std::env::temp_dir());
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// Ended when dropped.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended by a failure.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first `count` lines that it prints; it reads on until it is ended.
fn first_lines(mut command: Command, count: usize) -> Vec<String> {
    let mut reader = Reader(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(reader.0.stdout.take().unwrap()).lines();
    Vec::from_iter(lines.map_while(Result::ok).take(count))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_sends_and_reads() {
    let site = Site::new().await;
    let service = Service::start("serve", &site.settings()).await;
    let mut senders = vec![("curl", run("sh", &[], "send_batch.sh"))];
    if let Some(python) = python() {
        senders.push(("python", run(python, &[], "send_batch.py")));
    }
    if has_node() {
        senders.push(("node", run("node", &[], "send_batch.js")));
    }
    if Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        senders.push(("go", run("go", &["run"], "send_batch.go")));
    } else {
        eprintln!("SKIPPED: no Go here: examples/send_batch.go is not tested");
    }
    let sent = senders.len();
    for (name, sender) in &mut senders {
        sender.env("URL", service.url("")).env("TOKEN", TOKEN);
        for status in ["accepted", "duplicate"] {
            let output = sender.output().unwrap();
            let (out, errors) = texts(&output);
            assert!(output.status.success(), "{name}: {out}{errors}");
            let expected = match *name {
                "curl" => format!("\"status\":\"{status}\""),
                _ => format!("{name}-1001 {status}"),
            };
            assert!(out.contains(&expected), "{name}: {out}");
        }
        let refused = sender.env("TOKEN", "another").output().unwrap();
        let (out, errors) = texts(&refused);
        assert!(
            !refused.status.success() && (out + &errors).contains("401"),
            "{name}: {refused:?}"
        );
    }

    let url = site.redis.url();
    let socket = url.trim_start_matches("unix://");
    let mut readers = Vec::new();
    if let Some(python) = python() {
        let mut reader = run(python, &[], "read_stream.py");
        reader.env("REDIS_URL", &url);
        readers.push(("reports", reader));
    }
    if let Some(modules) = ioredis() {
        let mut reader = run("node", &[], "read_stream.js");
        reader.env("REDIS_URL", socket).env("NODE_PATH", modules);
        readers.push(("exports", reader));
    }
    for (group, reader) in readers {
        assert_eq!(
            first_lines(reader, sent),
            vec!["order.created 1001 24.9 EUR"; sent],
            "{group}"
        );
        // All but the last, which it was ended at, are acked.
        let pending: Vec<redis::Value> = site
            .redis
            .command(&["XPENDING", "orders_stream", group, "-", "+", "9"])
            .await;
        assert!(pending.len() <= 1, "{group}: {pending:?}");
    }
}

#[test]
fn a_signature_is_verified_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body.json");
    std::fs::write(&body, r#"{"id":1001}"#).unwrap();
    let request = crate::harness::service::webhook(&client(), "http://h", "orders/create", "1", br#"{"id":1001}"#);
    let request = request.build().unwrap();
    let signature = request.headers()["x-shopify-hmac-sha256"].to_str().unwrap();
    for (secret, signature, code) in [(SECRET, signature, 0), ("another", signature, 1), (SECRET, "AAAA", 1)] {
        let mut script = run("sh", &[], "verify_signature.sh");
        let output = script.arg(&body).arg(signature).env("SECRET", secret).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

fn client() -> reqwest::Client {
    // Fails where another test was faster; it installs the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
