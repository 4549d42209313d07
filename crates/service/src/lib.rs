//! Being a service: configuration, TLS, peers, authorisation, errors, health, telemetry, graceful stop.
#![forbid(unsafe_code)]
