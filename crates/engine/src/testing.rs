//! The private PostgreSQL that the tests of this crate and of the services share.

pub use dalp_testing::TestPostgres;
