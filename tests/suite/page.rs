//! The dashboard and the API reference as a browser gets them: whole, guarded, revalidated, and without a token.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use crate::harness::ground::{Ground, on_any_ground};
use crate::harness::ingest::Service;
use crate::harness::local::Local;
use crate::harness::service::Service as Process;
use crate::harness::wire::{Answer, ask, get, request};

on_any_ground!(
    the_pages_are_whole_and_guarded,
    a_browser_that_has_a_file_is_told_so,
    what_is_asked_for_compressed_is,
);

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/admin/page");

/// What an attribute or an import of the pages names, all of it paths on this listener.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for before in ["src=\"", "href=\"", "src: \"", "href: \""] {
        let rest = text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap());
        names.extend(rest.filter(|name| name.starts_with('/')).map(str::to_owned));
    }
    for module in text.split(" from \"./").skip(1) {
        names.insert(format!("/assets/{}", module.split('"').next().unwrap()));
    }
    names
}

fn assert_guarded(path: &str, answer: &Answer) {
    let policy = answer.header("content-security-policy").expect(path);
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(directive), "{path}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    assert!(!policy.contains("http") && !policy.contains('*'), "{path}: {policy}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_reached_under_the_names_that_are_set() {
    let local = Local::new();
    let settings = local
        .settings()
        .with("ORDERSTREAM_ADMIN_HOSTS", "admin, orders.internal");
    let service = Process::start("run", &settings).await;
    for (host, status) in [("orders.internal:9090", 200), ("ADMIN", 200), ("orders", 421)] {
        let asked = reqwest::Client::new().get(service.admin_url("/")).header("host", host);
        assert_eq!(asked.send().await.unwrap().status(), status, "{host}");
    }
}

async fn the_pages_are_whole_and_guarded(ground: Ground) {
    let service = ground.ingest().await;
    let mut unseen = BTreeSet::from(["/".to_owned(), "/docs".to_owned()]);
    let mut seen = BTreeSet::new();
    while let Some(path) = unseen.pop_first() {
        let answer = get(service.admin, &path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_guarded(&path, &answer);
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let expected = match path.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            Some((_, "yaml")) => "application/yaml",
            Some((_, "json")) => "application/json",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), Some(expected), "{path}");
        seen.insert(path);
        unseen.extend(named(answer.text()).into_iter().filter(|name| !seen.contains(name)));
    }
    let files = std::fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().file_name());
    let unnamed: Vec<_> = files
        .map(|file| format!("/assets/{}", file.to_str().unwrap()))
        .filter(|file| !file.ends_with(".html") && !file.ends_with(".txt") && !seen.contains(file))
        .collect();
    assert!(unnamed.is_empty(), "no page asks for {unnamed:?}");
    nothing_else_is_served(&service).await;
    service.stop().await;
}

async fn nothing_else_is_served(service: &Service) {
    for path in [
        "/assets/",
        "/assets/none.js",
        "/assets/%ff.js",
        "/assets/..%2fpage.rs",
        "/assets/%2fetc%2fpasswd.txt",
    ] {
        let answer = get(service.admin, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{path}"
        );
    }
    let foreign = b"GET / HTTP/1.1\r\nhost: rebound.example\r\n\r\n";
    let answer = ask(service.admin, foreign).await;
    assert_eq!(answer.status, 421);
    assert_guarded("a foreign host", &answer);
    let answer = get(service.admin, "/api/status").await;
    assert_eq!(answer.status, 401);
    assert_guarded("/api/status", &answer);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

async fn a_browser_that_has_a_file_is_told_so(ground: Ground) {
    let service = ground.ingest().await;
    for path in ["/", "/docs", "/assets/main.js", "/openapi.yaml", "/openapi.json"] {
        let line = format!("GET {path}");
        let first = get(service.admin, path).await;
        let tag = first.header("etag").expect(path).to_owned();
        for known in [tag.clone(), format!("\"other\", W/{tag}")] {
            let again = ask(service.admin, &request(&line, &[("if-none-match", &known)], b"")).await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
            assert_eq!(again.header("etag"), Some(tag.as_str()), "{path}");
            assert_guarded(path, &again);
        }
        let stale = ask(service.admin, &request(&line, &[("if-none-match", "\"other\"")], b"")).await;
        assert_eq!((stale.status, stale.body), (200, first.body), "{path}");
    }
    service.stop().await;
}

async fn what_is_asked_for_compressed_is(ground: Ground) {
    let service = ground.ingest().await;
    let client = reqwest::Client::new();
    for path in ["/", "/assets/main.js", "/assets/uplot.js", "/openapi.json", "/metrics"] {
        let url = format!("http://{}{path}", service.admin);
        let plain = client.get(&url).send().await.unwrap();
        assert_eq!(plain.headers().get("content-encoding"), None, "{path}");
        let plain = plain.bytes().await.unwrap();
        let packed = client.get(&url).header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], "gzip", "{path}");
        let packed = packed.bytes().await.unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(packed.len() < plain.len(), "{path}");
        // Figures move in between.
        assert!(path == "/metrics" || unpacked == plain, "{path}");
    }
    service.stop().await;
}

/// What the browser's policy would stop is not even written: markup from text, scripts in the page, other hosts.
#[test]
fn the_scripts_keep_to_the_policy() {
    let files = std::fs::read_dir(Path::new(FOLDER))
        .unwrap()
        .map(|file| file.unwrap().path());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_ours = !name.starts_with("uplot.");
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!text.contains(forbidden), "{name} has {forbidden}");
        }
        let is_elsewhere = |line: &&str| line.contains("://") && !line.contains("http://www.w3.org/2000/svg");
        if let Some(line) = text.lines().find(is_elsewhere).filter(|_| is_ours) {
            panic!("{name} names another host: {line}");
        }
        if is_ours && name.ends_with(".js") {
            assert!(text.starts_with("// "), "{name} does not begin with what it owns");
            assert!(text.lines().count() <= 200, "{name} is long");
        }
    }
}
