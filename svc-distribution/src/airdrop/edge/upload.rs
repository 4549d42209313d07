//! Lists as client streams: header, pieces, end.

use super::{
    Write, answers,
    messages::{Header, ListTerms},
};
use crate::{
    airdrop::{
        flows::{CreateAirdropFlow, CreateOrder},
        list::{Announced, BadLine, ListError, ListReader, Recipients},
        readers,
        store::airdrops::put_airdrop,
        terms::{CreateAirdrop, Kind, Terms},
        tree::Parts,
    },
    app::{App, AppHandle},
    metric_definitions as metric, readers as chain,
};
use alloy::primitives::{B256, U256, keccak256};
use dalp_engine::AcceptHook;
use dalp_proto::distribution as proto;
use dalp_service::{Reason, Refusal, fields};
use tonic::{Request, Response, Streaming};
use uuid::Uuid;

/// Bad lines that a refusal names: its details travel as metadata, which has to stay short.
const NAMED_LINES: usize = 20;

/// What a message of an upload carries.
enum Piece<H> {
    /// The first one.
    Header(H),
    /// A piece of the list.
    List(Vec<u8>),
    /// The last one.
    End(u64),
}

/// A message of an upload.
trait Part {
    /// What the first one carries.
    type Header;
    /// What this one carries, if anything.
    fn piece(self) -> Option<Piece<Self::Header>>;
}

/// Checks a list and takes nothing.
pub(super) async fn validate(
    app: &App,
    request: Request<Streaming<proto::ValidateRecipientsRequest>>,
) -> Result<proto::ValidateRecipientsResponse, Refusal> {
    let mut stream = request.into_inner();
    let terms = ListTerms::try_from(&header(&mut stream).await?)?;
    let decimals = chain::decimals(&app.chain, terms.asset).await?;
    let mut list = receive(&mut stream, ListReader::new(terms.format, decimals), true).await?;
    let identities_checked = verify(app, terms, &mut list, true).await?;
    let (list, digest) = hashed(list).await?;
    Ok(proto::ValidateRecipientsResponse {
        recipients: answers::count(list.rows.len() as u64),
        total: list.total.to_string(),
        digest: digest.to_string(),
        bad_line_count: list.left_out,
        bad_lines: answers::bad_lines(&list.bad_lines),
        identities_checked,
    })
}

/// Creates an airdrop from a list.
pub(super) async fn create(
    app: &AppHandle,
    request: Request<Streaming<proto::CreateAirdropRequest>>,
) -> Result<Response<proto::CreateAirdropResponse>, Refusal> {
    let write = Write::begin(app, "dalp.distribution.v1.AirdropService/CreateAirdrop", &request).await?;
    let mut stream = request.into_inner();
    let Header { sender, terms, list: about, leave_out } = Header::try_from(&header(&mut stream).await?)?;
    write.require_wallet(sender).await?;
    let (app, tenant) = (write.app, write.tenant().to_owned());
    let decimals = chain::decimals(&app.chain, terms.asset).await?;
    let list = receive(&mut stream, ListReader::new(about.format, decimals), leave_out).await?;
    // The key stands for the rows as they were given; what the chain says of them is asked once.
    let (mut list, digest) = hashed(list).await?;
    let recipients = answers::count(list.rows.len() as u64);
    let command = CreateAirdrop { sender, terms, digest, recipients, total: U256::from(list.total) };
    let order = async {
        verify(app, about, &mut list, leave_out).await?;
        let order = resolve(app, &tenant, &command, &list).await?;
        let list_id = app.store.put_list(&tenant, &list).await?;
        Ok((order.clone(), Some(airdrop_row(&tenant, list_id, order))))
    };
    let admitted = write.accept::<CreateAirdropFlow, _>(&command, order).await?;
    let operation_id = admitted.operation.operation_id.0;
    let stored = app.store.airdrop_of_operation(&tenant, operation_id).await?;
    let stored = stored.ok_or_else(|| Refusal::internal("an accepted creation without its airdrop"))?;
    Ok(admitted.respond(|operation| proto::CreateAirdropResponse {
        operation,
        airdrop: answers::text(stored.airdrop),
        recipients: answers::count(stored.recipients),
        total: stored.total.to_string(),
        left_out: list.left_out,
        bad_lines: answers::bad_lines(&list.bad_lines),
    }))
}

/// Takes out whom the asset would not take as holders, where that is asked for and the list is not too long. Whether it was done.
async fn verify(app: &App, about: ListTerms, list: &mut Recipients, leave_out: bool) -> Result<bool, Refusal> {
    if about.accept_unverified || list.rows.len() > app.limits.verified_rows {
        return Ok(false);
    }
    let registry = chain::registry_of(&app.chain, about.asset).await?;
    let unverified = readers::unverified(&app.chain, registry, about.asset, list).await?;
    list.reject(unverified, leave_out).map_err(refused)?;
    Ok(true)
}

/// Trees, and where the factory would put the airdrop: what it refuses is refused here, before anything is accepted.
async fn resolve(app: &App, tenant: &str, command: &CreateAirdrop, list: &Recipients) -> Result<CreateOrder, Refusal> {
    let factory = app.factory(tenant).await?;
    let parts = parts(&command.terms, list);
    let rows = list.rows.clone();
    let roots = tokio::task::spawn_blocking(move || parts.roots(&rows)).await.map_err(Refusal::internal)?;
    let salt = keccak256(Uuid::new_v4().as_bytes());
    let creation = (roots.clone(), parts.rows_per_root);
    let airdrop = readers::dry_create(&app.chain, factory, (command.sender, salt), &command.terms, creation).await?;
    Ok(CreateOrder {
        chain_id: app.chain.chain_id(),
        factory,
        airdrop,
        salt,
        roots,
        rows_per_root: parts.rows_per_root,
        command: command.clone(),
    })
}

fn parts(terms: &Terms, list: &Recipients) -> Parts {
    match terms.kind {
        Kind::Push => Parts::pushed(list.rows.len()),
        Kind::Claim | Kind::Vesting => Parts::claimed(list.rows.len()),
    }
}

/// Writes the airdrop in the commit that accepts its creation.
fn airdrop_row(tenant: &str, list_id: i64, order: CreateOrder) -> AcceptHook {
    let tenant = tenant.to_owned();
    Box::new(move |connection, id| {
        Box::pin(async move { put_airdrop(connection, &tenant, id.0, list_id, &order).await })
    })
}

/// The hash of a long list takes a moment.
async fn hashed(list: Recipients) -> Result<(Recipients, B256), Refusal> {
    tokio::task::spawn_blocking(move || {
        let digest = list.digest();
        (list, digest)
    })
    .await
    .map_err(Refusal::internal)
}

async fn header<M: Part>(stream: &mut Streaming<M>) -> Result<M::Header, Refusal> {
    match stream.message().await.map_err(|status| broken(status, 1))?.and_then(M::piece) {
        Some(Piece::Header(header)) => Ok(header),
        _ => Err(fields::violation("header", "is missing: it is the first message").into()),
    }
}

async fn receive<M: Part>(
    stream: &mut Streaming<M>,
    mut reader: ListReader,
    leave_out: bool,
) -> Result<Recipients, Refusal> {
    let announced = loop {
        match stream.message().await.map_err(|status| broken(status, reader.reached()))?.map(M::piece) {
            Some(Some(Piece::List(bytes))) => reader.push(&bytes).map_err(refused)?,
            Some(Some(Piece::End(recipients))) => break Announced(Some(recipients)),
            Some(Some(Piece::Header(_))) => {
                return Err(fields::violation("header", "stands here before: it is the first message alone").into());
            }
            Some(None) => return Err(fields::violation("part", "is missing: choose what the message carries").into()),
            None => break Announced(None),
        }
    };
    reader.finish(announced, leave_out).map_err(refused)
}

/// A stream that broke off is a list that was cut off at a line, unless our own server said why.
fn broken(status: tonic::Status, line: u32) -> Refusal {
    Refusal::from_status(&status).unwrap_or_else(|| {
        metric::list_refused("CUT_OFF");
        let text = "the stream broke off before the end of the list";
        Refusal::new(Reason::RecipientListInvalid, text)
            .meta("problem", "CUT_OFF")
            .field(format!("line {line}"), format!("CUT_OFF: {text}"))
            .source(status)
    })
}

fn refused(error: ListError) -> Refusal {
    metric::list_refused(error.code());
    let (code, text) = (error.code(), error.to_string());
    let refusal = Refusal::new(Reason::RecipientListInvalid, text.clone()).meta("problem", code);
    match error {
        ListError::BadLines { count, first } => {
            let named = first.iter().take(NAMED_LINES);
            named.fold(refusal.meta("bad_lines", count), |refusal, BadLine { line, problem }| {
                refusal.field(format!("line {line}"), format!("{}: {problem}", problem.code()))
            })
        }
        ListError::TooMany { line, .. } | ListError::CutOff { line, .. } => {
            refusal.field(format!("line {line}"), format!("{code}: {text}"))
        }
        ListError::Empty => refusal,
    }
}

macro_rules! pieces {
    ($($message:ident, $parts:ident, $header:ident;)+) => {$(
        impl Part for proto::$message {
            type Header = proto::$header;

            fn piece(self) -> Option<Piece<proto::$header>> {
                Some(match self.part? {
                    proto::$parts::Part::Header(header) => Piece::Header(header),
                    proto::$parts::Part::List(bytes) => Piece::List(bytes),
                    proto::$parts::Part::End(end) => Piece::End(end.recipients),
                })
            }
        }
    )+};
}

pieces! {
    ValidateRecipientsRequest, validate_recipients_request, ListHeader;
    CreateAirdropRequest, create_airdrop_request, AirdropHeader;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_breaks_off_names_its_line() {
        let details = Refusal::details(&broken(tonic::Status::cancelled("gone"), 7).into()).unwrap();
        assert_eq!(
            (details.reason.as_str(), details.metadata["problem"].as_str()),
            ("RECIPIENT_LIST_INVALID", "CUT_OFF")
        );
        assert_eq!(details.violations[0].0, "line 7");
    }
}
