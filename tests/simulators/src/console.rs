//! A console over HTTP, for people who try the platform: what waits at a custodian is theirs to approve, a partition waits for their shares. `GET /` tells what there
//! is to do and how things stand, `POST /<action>` does it.

use std::sync::Arc;

use async_trait::async_trait;
use dalp_quorum_module::device::Device;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    custodian::Custodian,
    http::{Broken, Reply, Request, Running, Service},
};

/// Something to do at a console, with what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Its name, which is its path.
    pub name: String,
    /// What it does.
    pub what: String,
}

/// Who works at a console.
#[async_trait]
pub trait Desk: Send + Sync + 'static {
    /// What there is to do.
    fn actions(&self) -> Vec<Action>;

    /// Does one of them, and tells how things stand then. Another name does nothing.
    ///
    /// # Errors
    /// When that fails.
    async fn act(&self, action: &str) -> anyhow::Result<Value>;
}

/// A console with its desk.
struct Console(Arc<dyn Desk>);

/// Serves a console on a free port of this machine.
///
/// # Errors
/// When there is none.
pub async fn start(desk: Arc<dyn Desk>) -> std::io::Result<Running> {
    Running::start(0, Arc::new(Console(desk))).await
}

// === impl Action ===

impl Action {
    fn new(name: &str, what: impl Into<String>) -> Self {
        Self { name: name.to_owned(), what: what.into() }
    }
}

// === impl Console ===

#[async_trait]
impl Service for Console {
    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        let action = request.path.trim_matches('/').to_owned();
        let actions = self.0.actions();
        let known = actions.iter().any(|one| one.name == action);
        if request.method == Method::POST && !known {
            return Ok(Reply::new(404, json!({ "error": format!("there is no {action}") })));
        }
        let acting = if request.method == Method::POST { action.as_str() } else { "" };
        let stands = match self.0.act(acting).await {
            Ok(stands) => stands,
            Err(error) => return Ok(Reply::new(500, json!({ "error": format!("{error:#}") }))),
        };
        Ok(Reply::ok(match acting {
            "" => {
                let actions: Vec<_> = actions.iter().map(|one| json!({ "post": one.name, "what": one.what })).collect();
                json!({ "actions": actions, "stands": stands })
            }
            done => json!({ "done": done, "stands": stands }),
        }))
    }
}

// === impl Desk for Custodian ===

#[async_trait]
impl Desk for Custodian {
    fn actions(&self) -> Vec<Action> {
        [
            ("allow", "from now on everything is signed without asking"),
            ("ask", "from now on a person is asked"),
            ("block", "from now on the policy stops everything"),
            ("approve", "approve everything that waits"),
            ("deny", "reject everything that waits"),
            ("expire", "nobody has decided in time about what waits"),
        ]
        .map(|(name, what)| Action::new(name, what))
        .to_vec()
    }

    async fn act(&self, action: &str) -> anyhow::Result<Value> {
        match action {
            "allow" => self.allow().await,
            "ask" => self.ask_people().await,
            "block" => self.block().await,
            "approve" => self.approve().await,
            "deny" => self.deny().await,
            "expire" => self.expire().await,
            _ => {}
        }
        Ok(json!({ "requests": self.external_ids().await }))
    }
}

// === impl Desk for Device ===

#[async_trait]
impl Desk for Device {
    fn actions(&self) -> Vec<Action> {
        // A device that cannot be read says so when something is done.
        let shares = self.read().map(|state| state.shares).unwrap_or_default();
        let mut actions: Vec<_> = (1..=shares)
            .map(|number| Action::new(&format!("present/{number}"), format!("person {number} presents a share")))
            .collect();
        actions.push(Action::new("deactivate", "from now on people are asked again, as after a loss of power"));
        actions.push(Action::new("lose", "the appliance, or the network to it, is away"));
        actions.push(Action::new("return", "it is back; what was opened before is void"));
        actions
    }

    async fn act(&self, action: &str) -> anyhow::Result<Value> {
        match action {
            "deactivate" => self.deactivate()?,
            "lose" => self.lose()?,
            "return" => self.bring_back()?,
            other => {
                if let Some(number) = other.strip_prefix("present/") {
                    self.present(number.parse()?)?;
                }
            }
        }
        let state = self.read()?;
        Ok(json!({
            "shares": { "needed": state.shares_needed, "of": state.shares, "presented": state.presented },
            "activated": state.is_active(), "reachable": state.is_reachable(), "locked": state.is_locked(),
            "logins": state.logins, "keys_made": state.generated, "signatures": state.signatures,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on stops where it stands
mod tests {
    use super::*;
    use crate::custodian::Kind;

    async fn post(console: &Running, action: &str) -> (u16, Value) {
        let answer = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = answer.post(format!("{}/{action}", console.origin())).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    #[tokio::test]
    async fn people_present_shares() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::open(folder.path()).unwrap();
        device.demand_quorum(2, 3).unwrap();
        let console = start(Arc::new(device.clone())).await.unwrap();
        for (action, activated) in [("present/2", false), ("present/2", false), ("present/1", true)] {
            let (status, told) = post(&console, action).await;
            assert_eq!((status, &told["stands"]["activated"]), (200, &json!(activated)), "{told}");
        }
        assert!(device.read().unwrap().is_active());
        assert_eq!(post(&console, "deactivate").await.1["stands"]["activated"], json!(false));
        for unknown in ["present/4", "present/x", "zeroise"] {
            assert_eq!(post(&console, unknown).await.0, 404, "{unknown}");
        }
        assert_eq!(post(&console, "lose").await.1["stands"]["reachable"], json!(false));
        assert_eq!(post(&console, "return").await.1["stands"]["reachable"], json!(true));
    }

    #[tokio::test]
    async fn everything_that_is_told_can_be_done() {
        let custodian = Arc::new(Custodian::start(Kind::Dfns, None).await.unwrap());
        let console = start(Arc::clone(&custodian) as Arc<dyn Desk>).await.unwrap();
        let told: Value = reqwest::get(console.origin()).await.unwrap().json().await.unwrap();
        let actions = told["actions"].as_array().unwrap();
        assert!(actions.len() >= 6, "{told}");
        for action in actions {
            let name = action["post"].as_str().unwrap();
            assert_eq!(post(&console, name).await.0, 200, "{name}");
        }
    }
}
