//! `/metrics`, `/livez` and `/readyz` in plain HTTP, for the scraper and the prober on the pod's own network: neither has a certificate.

use std::{convert::Infallible, time::SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::HealthHandle;
use crate::stop::Stop;

pub(super) async fn serve(listener: TcpListener, handle: PrometheusHandle, health: HealthHandle, stop: Stop) {
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
        let (handle, health, stop) = (handle.clone(), health.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (handle, health) = (handle.clone(), health.clone());
                async move { Ok::<_, Infallible>(answer(request.uri().path(), &handle, &health).await) }
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            // The server would keep its date until a later one: for as long as a clock was ahead that is set right again. `answer` dates by the clock as it is.
            connection.auto_date_header(false);
            tokio::select! {
                // A scraper that hangs up is not our failure.
                _ = connection.serve_connection(TokioIo::new(stream), service) => {}
                () = stop.requested() => {}
            }
        });
    }
}

async fn answer(path: &str, handle: &PrometheusHandle, health: &HealthHandle) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => (StatusCode::OK, handle.render()),
        // That it is answered is the answer.
        "/livez" => (StatusCode::OK, "alive\n".to_owned()),
        "/readyz" if health.is_ready().await => (StatusCode::OK, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "only /metrics, /livez and /readyz are served here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; version=0.0.4"));
    if let Ok(date) = http::HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        headers.insert(http::header::DATE, date);
    }
    response
}
