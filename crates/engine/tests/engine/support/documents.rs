//! A flow that has documents signed, and what the signer answers to them.

use super::{Bench, LocalSigner, SERVICE, TENANT};
use alloy::primitives::{Address, Bytes};
use dalp_engine::{
    Admission, Cx, Engine, Failure, Flow, OperationId, SignDocument, Signature, Step,
    signer::{SignError, SignOutcome},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Mutex};
use tokio::sync::watch;

/// Asks for one document after the other until one is signed.
pub struct Attest;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttestOrder {
    pub signer: Address,
    pub attempts: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attested {
    pub refused: Vec<String>,
}

impl Flow for Attest {
    const KIND: &'static str = "test.attest";
    type Order = AttestOrder;
    type Outcome = Attested;
    fn run(cx: &mut Cx<'_, AttestOrder>) -> Step<Attested> {
        let order = cx.order();
        let mut refused = Vec::new();
        for attempt in 0..order.attempts {
            let name = format!("attest/{attempt}");
            let document = || SignDocument::Eip712 { signer: order.signer, document: json!({ "step": name }) };
            match cx.try_sign(&name, document)? {
                Ok(_) => return cx.done(Attested { refused }),
                Err(failure) => refused.push(failure.reason),
            }
        }
        cx.fail(Failure::new("WEARY", "refused too often"))
    }
}

/// What the signer does with a document.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Sign,
    /// Refused by a provider.
    Denied,
    /// Refused by the signer itself.
    Refused,
    /// Not decided yet.
    Hold,
    /// None.
    Silence,
}

/// The next answers, and the documents that were asked for; signed when nothing is said.
pub struct Documents {
    answers: Mutex<VecDeque<Answer>>,
    asked: watch::Sender<Vec<String>>,
}

// === impl Documents ===

impl Documents {
    pub async fn answer(&self, document: &Value) -> Result<SignOutcome, SignError> {
        let answer = self.answers.lock().expect("not poisoned").pop_front().unwrap_or(Answer::Sign);
        self.asked.send_modify(|asked| asked.push(document["step"].as_str().unwrap_or_default().to_owned()));
        let failure = || Failure::new("NO", "a test says so");
        match answer {
            Answer::Sign => Ok(SignOutcome::Signed(Signature(Bytes::from(vec![1; 65])))),
            Answer::Denied => Ok(SignOutcome::Denied(failure())),
            Answer::Refused => Err(SignError::Refused(failure())),
            Answer::Hold => Ok(SignOutcome::Pending { provider: None, detail: "later".into() }),
            Answer::Silence => std::future::pending().await,
        }
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self { answers: Mutex::default(), asked: watch::channel(Vec::new()).0 }
    }
}

// === impl LocalSigner ===

impl LocalSigner {
    /// What is said to the next documents; those so far are forgotten.
    pub fn answer_documents(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.documents.answers.lock().expect("not poisoned") = answers.into_iter().collect();
        self.documents.asked.send_modify(Vec::clear);
    }

    /// The steps whose documents were asked for, in order.
    pub fn documents(&self) -> Vec<String> {
        self.documents.asked.borrow().clone()
    }

    /// Waits until so many documents were asked for.
    pub async fn wait_for_documents(&self, count: usize) {
        let mut asked = self.documents.asked.subscribe();
        asked.wait_for(|asked| asked.len() >= count).await.expect("the signer lives");
    }
}

// === impl Bench ===

impl Bench {
    pub async fn attest(&self, engine: &Engine, key: &str, attempts: u32) -> OperationId {
        let order = AttestOrder { signer: self.lane(0).sender, attempts };
        let admission = Admission::<Attest>::new(TENANT.into(), SERVICE, "test.Attest", key, order);
        engine.accept(admission).await.expect("accepted").operation.operation_id
    }
}
