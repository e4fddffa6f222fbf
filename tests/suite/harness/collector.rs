//! A collector of spans: OTLP over HTTP, as far as an exporter needs it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::eventually;
use super::site::PATIENCE;

/// What came in one request.
#[derive(Debug, Clone)]
pub struct Export {
    pub path: String,
    /// Of `x-tests`.
    pub header: Option<String>,
    pub request: ExportTraceServiceRequest,
}

/// Takes whatever is sent; ends with the value.
pub struct Collector {
    addr: SocketAddr,
    exports: Arc<Mutex<Vec<Export>>>,
    _accepting: JoinSet<()>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let exports = Arc::<Mutex<Vec<Export>>>::default();
        let mut accepting = JoinSet::new();
        let taken = Arc::clone(&exports);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let taken = Arc::clone(&taken);
                let service = service_fn(move |request| take(request, Arc::clone(&taken)));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                // Ends with its client.
                connections.spawn(async move { drop(connection.await) });
            }
        });
        Self {
            addr,
            exports,
            _accepting: accepting,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn exports(&self) -> Vec<Export> {
        self.exports.lock().unwrap().clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        let resources = self
            .exports()
            .into_iter()
            .flat_map(|export| export.request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// Waits until so many spans of that name are there, and answers them.
    pub async fn has(&self, count: usize, name: &str) -> Vec<Span> {
        eventually(&format!("{count} spans `{name}`"), PATIENCE, async || {
            let spans = self.spans();
            let found: Vec<Span> = spans.into_iter().filter(|span| span.name == name).collect();
            (found.len() == count).then_some(found)
        })
        .await
    }

    /// Waits for the only span of that name.
    pub async fn has_one(&self, name: &str) -> Span {
        self.has(1, name).await.remove(0)
    }
}

async fn take(
    request: Request<Incoming>,
    exports: Arc<Mutex<Vec<Export>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let header = request
        .headers()
        .get("x-tests")
        .map(|text| text.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    exports.lock().unwrap().push(Export { path, header, request });
    Ok(Response::new(Full::default()))
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match &found.value {
        Some(AnyValue {
            value: Some(any_value::Value::StringValue(text)),
        }) => Some(text.clone()),
        Some(AnyValue {
            value: Some(any_value::Value::IntValue(number)),
        }) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}
