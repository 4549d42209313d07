//! A custodian's console over HTTP, for people who try the platform: `POST /ask` and what waits is theirs to `POST /approve`, `/deny` or `/expire`.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Method;
use serde_json::json;

use crate::{
    custodian::Custodian,
    http::{Broken, Reply, Request, Running, Service},
};

/// What a console does, with what it is for.
pub const ACTIONS: [(&str, &str); 6] = [
    ("allow", "from now on everything is signed without asking"),
    ("ask", "from now on a person is asked"),
    ("block", "from now on the policy stops everything"),
    ("approve", "approve everything that waits"),
    ("deny", "reject everything that waits"),
    ("expire", "nobody has decided in time about what waits"),
];

struct Console(Arc<Custodian>);

/// Serves the console of a custodian on a free port of this machine.
///
/// # Errors
/// When there is none.
pub async fn start(custodian: Arc<Custodian>) -> std::io::Result<Running> {
    Running::start(0, Arc::new(Console(custodian))).await
}

// === impl Console ===

#[async_trait]
impl Service for Console {
    async fn answer(&self, request: Request) -> Result<Reply, Broken> {
        let action = request.path.trim_matches('/').to_owned();
        if request.method != Method::POST {
            let actions: Vec<_> = ACTIONS.iter().map(|(name, what)| json!({ "post": name, "what": what })).collect();
            return Ok(Reply::ok(json!(actions)));
        }
        match action.as_str() {
            "allow" => self.0.allow().await,
            "ask" => self.0.ask_people().await,
            "block" => self.0.block().await,
            "approve" => self.0.approve().await,
            "deny" => self.0.deny().await,
            "expire" => self.0.expire().await,
            _ => return Ok(Reply::new(404, json!({ "error": format!("there is no {action}") }))),
        }
        Ok(Reply::ok(json!({ "done": action })))
    }
}
