//! `/metrics` in plain HTTP, for the scraper on the pod's own network.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::stop::Stop;

pub(super) async fn serve(listener: TcpListener, handle: PrometheusHandle, stop: Stop) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a metrics connection");
                    tokio::task::yield_now().await;
                    continue;
                }
            },
            () = stop.requested() => return,
        };
        let (handle, stop) = (handle.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.uri().path(), &handle);
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::select! {
                // A scraper that hangs up is not our failure.
                _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
                () = stop.requested() => {}
            }
        });
    }
}

fn answer(path: &str, handle: &PrometheusHandle) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => (StatusCode::OK, handle.render()),
        _ => (StatusCode::NOT_FOUND, "only /metrics is served here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}
