//! One RPC, from what was typed to what is printed.

use crate::{catalogue::Rpc, channel::Gateway, codec::Dynamic, failure::Failure, follow, render, request, secret};
use clap::ArgMatches;
use dalp_proto::{IdempotencyClass, operation::Operation};
use indicatif::{ProgressBar, ProgressStyle};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use std::{path::PathBuf, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use uuid::Uuid;

/// Rows of a streamed request that are read ahead of the wire.
const READ_AHEAD: usize = 1_024;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

/// Calls and prints; with `--wait` also follows the operation that is answered.
///
/// # Errors
/// When the request cannot be made of what was typed, or is refused.
pub(crate) async fn call(rpc: &Rpc, given: &ArgMatches) -> Result<(), Failure> {
    let wait = given.get_flag("wait").then(|| {
        rpc.operation_field().ok_or_else(|| Failure::Usage(format!("--wait: {} answers with no operation", rpc.name)))
    });
    let wait = wait.transpose()?;
    // Before the connection: what is wrong with the request is told without one.
    let message = match rpc.descriptor.is_client_streaming() {
        false => Some(request::request(&rpc.descriptor.input(), given)?),
        true => None,
    };
    let shown = secret::verification(given)?;
    let mut calling = Calling { rpc, given, gateway: Gateway::connect(given).await?, key: key_of(rpc, given), shown };
    let answer = match (message, rpc.descriptor.is_server_streaming()) {
        (Some(message), false) => calling.unary(message).await?,
        (Some(message), true) => return calling.stream(message).await,
        (None, false) => calling.upload().await?,
        (None, true) => return Err(Failure::Broken("calls that stream in both directions are not supported".into())),
    };
    let Some(field) = wait else {
        calling.print(&answer);
        return Ok(());
    };
    let operation = answer.get_field(&field);
    let operation =
        operation.as_message().and_then(|message| Operation::decode(message.encode_to_vec().as_slice()).ok());
    let operation = operation.filter(|operation| !operation.operation_id.is_empty());
    let Some(operation) = operation else {
        calling.print(&answer);
        return Err(Failure::Broken("the answer has no operation to wait for".into()));
    };
    let at_most = Duration::from_secs(*given.get_one::<u64>("wait-s").expect("has a default"));
    let ended = follow::follow(&calling.gateway, &operation.operation_id, at_most).await?;
    let mut answer = answer;
    let of =
        field.kind().as_message().cloned().ok_or_else(|| Failure::Broken("an operation that is no message".into()))?;
    let shown = DynamicMessage::decode(of, ended.encode_to_vec().as_slice());
    let shown = shown.map_err(|error| Failure::Broken(error.to_string()))?;
    answer.set_field(&field, prost_reflect::Value::Message(shown));
    calling.print(&answer);
    follow::outcome(&ended)
}

/// The key under which a write may be repeated.
fn key_of(rpc: &Rpc, given: &ArgMatches) -> Option<String> {
    let named = given.get_one::<String>("idempotency-key").cloned();
    (rpc.idempotency == IdempotencyClass::Keyed).then(|| named.unwrap_or_else(|| Uuid::now_v7().to_string()))
}

struct Calling<'c> {
    rpc: &'c Rpc,
    given: &'c ArgMatches,
    gateway: Gateway,
    key: Option<String>,
    /// What verifies the wallet.
    shown: Option<MetadataValue<Ascii>>,
}

// === impl Calling ===

impl Calling<'_> {
    async fn unary(&mut self, message: DynamicMessage) -> Result<DynamicMessage, Failure> {
        let request = self.request(message, true)?;
        let mut grpc = self.ready().await?;
        let answer = grpc.unary(request, self.path()?, self.codec()).await.map_err(|status| self.refused(status))?;
        self.tell_key(answer.metadata());
        Ok(answer.into_inner())
    }

    /// Prints messages as they come.
    async fn stream(&mut self, message: DynamicMessage) -> Result<(), Failure> {
        let request = self.request(message, false)?;
        let mut grpc = self.ready().await?;
        let answer = grpc.server_streaming(request, self.path()?, self.codec()).await;
        let mut messages: Streaming<DynamicMessage> = answer.map_err(|status| self.refused(status))?.into_inner();
        while let Some(message) = messages.message().await.map_err(|status| self.refused(status))? {
            self.print(&message);
        }
        Ok(())
    }

    /// Streams a file. A row that cannot be read breaks the call off, so that the platform never takes half a list for a whole one.
    async fn upload(&mut self) -> Result<DynamicMessage, Failure> {
        let path = self.given.get_one::<PathBuf>("rows");
        let path = path
            .ok_or_else(|| Failure::Usage("--rows: name the file with the messages, one line of JSON each".into()))?;
        let rows = request::rows(&self.rpc.descriptor.input(), path)?;
        let bar = match request::size_of(path) {
            Some(size) => ProgressBar::new(size).with_style(
                ProgressStyle::with_template("{elapsed} [{bar:30}] {bytes}/{total_bytes}")
                    .expect("the template is well-formed"),
            ),
            None => ProgressBar::new_spinner(),
        };
        let (stream, broken) = read_ahead(rows, bar.clone());
        let request = self.request(stream, false)?;
        let mut grpc = self.ready().await?;
        let (path, codec) = (self.path()?, self.codec());
        let answer = tokio::select! {
            biased;
            Ok(failure) = broken => return Err(failure),
            answer = grpc.client_streaming(request, path, codec) => answer,
        };
        bar.finish_and_clear();
        let answer = answer.map_err(|status| self.refused(status))?;
        self.tell_key(answer.metadata());
        Ok(answer.into_inner())
    }

    async fn ready(&self) -> Result<Grpc<tonic::transport::Channel>, Failure> {
        let mut grpc = Grpc::new(self.gateway.channel.clone()).max_decoding_message_size(usize::MAX);
        let ready = grpc.ready().await;
        ready.map_err(|error| self.refused(Status::unavailable(crate::channel::chain(&error))))?;
        Ok(grpc)
    }

    fn request<T>(&self, message: T, ends: bool) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        self.gateway.sign_in(request.metadata_mut());
        if let Some(key) = &self.key {
            let value =
                key.parse().map_err(|_| Failure::Usage("--idempotency-key: visible ASCII characters only".into()))?;
            request.metadata_mut().insert(IDEMPOTENCY_KEY, value);
        }
        if let Some(shown) = &self.shown {
            request.metadata_mut().insert(secret::VERIFICATION, shown.clone());
        }
        if ends {
            request.set_timeout(Duration::from_secs(*self.given.get_one::<u64>("deadline-s").expect("has a default")));
        }
        Ok(request)
    }

    fn path(&self) -> Result<http::uri::PathAndQuery, Failure> {
        self.rpc.path().parse().map_err(|error| Failure::Broken(format!("{}: {error}", self.rpc.path())))
    }

    fn codec(&self) -> Dynamic {
        Dynamic(self.rpc.descriptor.output())
    }

    fn refused(&self, status: Status) -> Failure {
        Failure::Refused { status: Box::new(status), idempotency_key: self.key.clone() }
    }

    /// On the standard error, so that what a script reads stays what was asked for.
    fn tell_key(&self, answered: &MetadataMap) {
        if let Some(key) = &self.key {
            let replayed = answered.get(IDEMPOTENCY_REPLAYED).is_some_and(|value| value == "true");
            eprintln!(
                "idempotency-key: {key}{}",
                if replayed { " (answered before: this is the same operation)" } else { "" }
            );
        }
    }

    fn print(&self, answer: &DynamicMessage) {
        match self.given.get_flag("json") {
            true => println!("{}", render::json(answer)),
            false => print!("{}", render::text(answer)),
        }
    }
}

/// Reads rows in a thread of their own. The stream ends with the last one, and never after a bad one: that one is told beside it.
fn read_ahead(
    rows: impl Iterator<Item = Result<(DynamicMessage, u64), Failure>> + Send + 'static,
    bar: ProgressBar,
) -> (impl Stream<Item = DynamicMessage> + Send + 'static, oneshot::Receiver<Failure>) {
    let (hand_over, taken) = mpsc::channel(READ_AHEAD);
    let (break_off, broken) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        for row in rows {
            match row {
                Ok((message, bytes)) => {
                    bar.inc(bytes);
                    if hand_over.blocking_send(message).is_err() {
                        return;
                    }
                }
                Err(failure) => {
                    let _ = break_off.send(failure);
                    // Open until the call is gone.
                    tokio::runtime::Handle::current().block_on(hand_over.closed());
                    return;
                }
            }
        }
    });
    (ReceiverStream::new(taken), broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tokio_stream::StreamExt as _;

    fn row(field: &str) -> Result<(DynamicMessage, u64), Failure> {
        let pool = prost_reflect::DescriptorPool::decode(dalp_proto::FILE_DESCRIPTOR_SET).expect("compiled in");
        let of = pool.get_message_by_name("dalp.operation.v1.GetOperationRequest").expect("there");
        let mut message = DynamicMessage::new(of);
        message.set_field_by_name("operation_id", prost_reflect::Value::String(field.to_owned()));
        Ok((message, 1))
    }

    #[tokio::test]
    async fn a_whole_list_ends() {
        let (stream, _broken) = read_ahead([row("a"), row("b")].into_iter(), ProgressBar::hidden());
        let rows: Vec<DynamicMessage> = stream.collect().await;
        assert_eq!(rows.len(), 2);
    }

    #[tokio::test]
    async fn a_list_with_a_bad_row_never_ends() {
        let rows = vec![row("a"), Err(Failure::Usage("line 2".into())), row("c")];
        let (stream, broken) = read_ahead(rows.into_iter(), ProgressBar::hidden());
        let mut stream = std::pin::pin!(stream);
        assert!(stream.next().await.is_some());
        assert_eq!(broken.await.expect("told").to_string(), "line 2");
        // Its sender stays for as long as somebody listens.
        assert!(stream.next().now_or_never().is_none(), "the platform sees no end of the list");
    }
}
