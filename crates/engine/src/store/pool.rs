//! The pool of connections that a service gives its engine and its own store.

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr as _, time::Duration};

/// Every statement finds its rows by an index, and names few of them. The server, left to itself, plans for the sizes that it
/// last counted, and each connection keeps such a plan: made while the tables were empty (a new database, or one that autovacuum
/// has not come by yet), it reads a whole table for one row, slower with every row, foreign keys included.
const PLANS: [(&str, &str); 3] = [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off")];

/// Who waits longer for a connection is told so, and can ask again.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);

/// A pool for the database behind `url`, with `schema` for the service's own tables; the server shows its connections under the
/// service's name. It connects when first used, so that a service starts while its database is away.
///
/// # Errors
///
/// [`sqlx::Error::Configuration`] if `url` is not the address of a PostgreSQL database.
pub fn pool(url: &str, service: &str, schema: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let options =
        PgConnectOptions::from_str(url)?.application_name(service).options(PLANS).options([("search_path", schema)]);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_WITHIN)
        .after_connect(|connection, _| Box::pin(dalp_schema::to_a_primary(connection)))
        .connect_lazy_with(options))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{StoreError, testing::TestPostgres};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_standby_is_not_written_to_and_its_connections_are_not_kept() {
        // What is written must outlive the restart.
        let mut server = TestPostgres::start_durable();
        let pool = pool(&server.url(), "test", "public", 2).unwrap();
        sqlx::query("CREATE TABLE public.kept (id int)").execute(&pool).await.unwrap();
        tokio::task::block_in_place(|| server.restart_as_standby());
        let write = || sqlx::query("INSERT INTO public.kept VALUES (1)").execute(&pool);
        for _ in 0..3 {
            let error = StoreError::from(write().await.unwrap_err());
            assert!(error.is_retryable(), "{error:?}");
        }
        server.promote().await;
        write().await.unwrap();
    }
}
