//! Every metric of this crate: names and descriptions.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Finished requests, by `service`, `method`, `code`.
pub const GRPC_SERVER_REQUESTS_TOTAL: &str = "grpc_server_requests_total";
/// Time from the request's headers to the end of the response, by `service`, `method`.
pub const GRPC_SERVER_DURATION_SECONDS: &str = "grpc_server_duration_seconds";
/// Requests being served, by `service`.
pub const GRPC_SERVER_IN_FLIGHT: &str = "grpc_server_in_flight";
/// TLS handshakes that did not come about.
pub const TLS_HANDSHAKE_FAILURES_TOTAL: &str = "tls_handshake_failures_total";
/// New certificate material by `side` (server, client) and `outcome` (published, refused).
pub const TLS_RELOADS_TOTAL: &str = "tls_reloads_total";
/// When our own certificate in force ends, in seconds since 1970, by `side` (server, client).
pub const TLS_CERTIFICATE_ENDS_SECONDS: &str = "tls_certificate_not_after_seconds";
/// When the first revocation list in force is out of date, in seconds since 1970, by `side` (server, client).
pub const TLS_LIST_ENDS_SECONDS: &str = "tls_revocation_list_next_update_seconds";
/// Connections that were closed because the peer's certificate no longer holds, by `side` (server, client).
pub const TLS_PEERS_DISMISSED_TOTAL: &str = "tls_peers_dismissed_total";

/// The names, for the test that each is on a dashboard or an allow-list.
pub const ALL: &[&str] = &[
    GRPC_SERVER_REQUESTS_TOTAL,
    GRPC_SERVER_DURATION_SECONDS,
    GRPC_SERVER_IN_FLIGHT,
    TLS_HANDSHAKE_FAILURES_TOTAL,
    TLS_RELOADS_TOTAL,
    TLS_CERTIFICATE_ENDS_SECONDS,
    TLS_LIST_ENDS_SECONDS,
    TLS_PEERS_DISMISSED_TOTAL,
];

/// Buckets of every `_seconds` histogram: half a millisecond to a minute.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Tells the recorder what they mean.
pub fn describe() {
    describe_counter!(GRPC_SERVER_REQUESTS_TOTAL, Unit::Count, "finished requests by service, method and gRPC code");
    describe_histogram!(
        GRPC_SERVER_DURATION_SECONDS,
        Unit::Seconds,
        "time from request headers to the end of the response"
    );
    describe_gauge!(GRPC_SERVER_IN_FLIGHT, Unit::Count, "requests being served");
    describe_counter!(TLS_HANDSHAKE_FAILURES_TOTAL, Unit::Count, "TLS handshakes that did not come about");
    describe_counter!(TLS_RELOADS_TOTAL, Unit::Count, "new certificate material by side and outcome");
    describe_gauge!(TLS_CERTIFICATE_ENDS_SECONDS, Unit::Seconds, "when our own certificate in force ends");
    describe_gauge!(TLS_LIST_ENDS_SECONDS, Unit::Seconds, "when the first revocation list in force is out of date");
    describe_counter!(
        TLS_PEERS_DISMISSED_TOTAL,
        Unit::Count,
        "connections closed because the peer's certificate no longer holds"
    );
}
