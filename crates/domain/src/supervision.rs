//! Bringing a service up as its dependencies appear, and watching them.

use dalp_chain::Upstreams;
use dalp_service::{server::HealthHandle, stop::Stop};
use futures::future::BoxFuture;
use std::time::Duration;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const DATABASE: &str = "database";
const CHAIN: &str = "chain";
const SIGNER: &str = "svc-signer";
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the database answers.
type Ping = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Waits before the next look. True: a stop was requested.
pub async fn pause(stop: &Stop) -> bool {
    tokio::select! {
        () = stop.requested() => true,
        () = tokio::time::sleep(PAUSE) => false,
    }
}

/// What a domain service depends on, and what it says of that.
pub struct Watched {
    health: HealthHandle,
    ping: Ping,
    /// None until a chain of the right id was found.
    pub upstreams: Option<Upstreams>,
    /// Further chains, as far as they were found. A service is healthy without them: what lives on the first goes on.
    pub further: Vec<Upstreams>,
    /// To svc-signer.
    pub signer: Channel,
}

// === impl Watched ===

impl Watched {
    /// Says that nothing is there yet.
    pub async fn new<P>(health: HealthHandle, signer: Channel, ping: impl Fn() -> P + Send + Sync + 'static) -> Self
    where
        P: Future<Output = bool> + Send + 'static,
    {
        for dependency in [DATABASE, CHAIN, SIGNER] {
            health.set(dependency, false).await;
        }
        Self { health, ping: Box::new(move || Box::pin(ping())), upstreams: None, further: Vec::new(), signer }
    }

    /// Looks at everything and says what it found.
    pub async fn look(&self) {
        let chain = async {
            match &self.upstreams {
                Some(upstreams) => upstreams.block_number().await.is_ok(),
                None => false,
            }
        };
        let signer = async {
            let mut client = HealthClient::new(self.signer.clone());
            let answer = client.check(HealthCheckRequest::default()).await;
            answer.is_ok_and(|answer| answer.get_ref().status == i32::from(ServingStatus::Serving))
        };
        let (database, chain, signer) = tokio::join!(in_time((self.ping)()), in_time(chain), in_time(signer));
        for (dependency, healthy) in [(DATABASE, database), (CHAIN, chain), (SIGNER, signer)] {
            self.health.set(dependency, healthy).await;
        }
        for further in &self.further {
            let answers = in_time(async { further.block_number().await.is_ok() }).await;
            self.health.set_alone(&format!("{CHAIN}-{}", further.config().chain_id), answers).await;
        }
    }
}

/// What answers late does not serve.
async fn in_time(healthy: impl Future<Output = bool>) -> bool {
    tokio::time::timeout(PATIENCE, healthy).await.unwrap_or(false)
}
