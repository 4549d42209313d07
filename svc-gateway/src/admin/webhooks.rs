//! The Webhook service.

use dalp_engine::{OutboxCursor, TenantId};
use dalp_proto::{
    timestamp,
    webhook::{
        self as wire, CreateWebhookRequest, CreateWebhookResponse, DeleteWebhookRequest, DeleteWebhookResponse,
        GetWebhookRequest, GetWebhookResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListWebhooksRequest,
        ListWebhooksResponse, ReplayDeliveriesRequest, ReplayDeliveriesResponse, RotateWebhookSecretRequest,
        RotateWebhookSecretResponse, TestWebhookRequest, TestWebhookResponse, UpdateWebhookRequest,
        UpdateWebhookResponse, replay_deliveries_request::What, webhook_service_server::WebhookService,
    },
};
use dalp_service::{Caller, Reason, Refusal, errors::RefusalResult, fields};
use serde_json::json;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Desk, Write, invalid_field, nothing, page};
use crate::{
    events::{self, check_types},
    requests::{foreign_page_token, invalid, page_size, reason, store_refusal},
    sealing::Purpose,
    webhooks::{
        Office,
        event::Letter,
        queue::{self, DeliveryRow, DeliveryState},
        rows::{self, MOST_SECRETS, MOST_WEBHOOKS, NewWebhook, State, WebhookRow},
        signature::Secret,
    },
};

const MOST_OVERLAP_S: u32 = 2_592_000;
const MAX_DESCRIPTION_CHARACTERS: usize = 200;
const MAX_EVENT_ID_CHARACTERS: usize = 100;

#[tonic::async_trait]
impl WebhookService for Desk {
    async fn create_webhook(
        &self,
        request: Request<CreateWebhookRequest>,
    ) -> Result<Response<CreateWebhookResponse>, Status> {
        let office = self.office()?;
        let CreateWebhookRequest { url, types, description } = request.get_ref().clone();
        check_types("types", &types)?;
        fields::bounded_string("description", &description, 0, MAX_DESCRIPTION_CHARACTERS).map_err(invalid)?;
        // Looked at before the commit, decided in it: a repeat has its first answer, and what is refused stands in the audit.
        let url = reachable(office, &url).await;
        let after = office.reader.end_of_events().await.map_err(store_refusal)?;
        let hide = |answer: &mut CreateWebhookResponse| answer.secret.clear();
        let answer = self.write("dalp.webhook.v1.WebhookService/CreateWebhook", &request, hide, async |write| {
            let url = url?;
            let (tenant, by, id) = (write.tenant().to_owned(), write.by.clone(), Uuid::now_v7());
            let new =
                NewWebhook { id, tenant: &tenant, url: &url, types: &types, description: &description, after, by: &by };
            if !rows::create(write.commit, new).await? {
                let why = format!("a tenant has at most {MOST_WEBHOOKS} webhooks; delete one");
                return Err(Refusal::new(Reason::FailedPrecondition, why));
            }
            let secret = new_secret(write, office, id, 0).await?;
            write.leaf(&tenant, "webhook.create", &id.to_string(), json!({"url": url, "types": types})).await?;
            Ok(CreateWebhookResponse { webhook: Some(found(write, id).await?.into()), secret })
        });
        Ok(answer.await?)
    }

    async fn update_webhook(
        &self,
        request: Request<UpdateWebhookRequest>,
    ) -> Result<Response<UpdateWebhookResponse>, Status> {
        let office = self.office()?;
        let asked = request.get_ref();
        let id = webhook_id(&asked.webhook_id)?;
        let state = match asked.state() {
            wire::WebhookState::Unspecified => None,
            wire::WebhookState::Active => Some(State::Active),
            wire::WebhookState::Paused => Some(State::Paused),
            wire::WebhookState::Disabled => {
                return Err(invalid_field("state", "ask for ACTIVE or PAUSED").into());
            }
        };
        let UpdateWebhookRequest { url, types, set_types, .. } = asked.clone();
        if !set_types && !types.is_empty() {
            return Err(invalid_field("set_types", "must be set for `types` to count").into());
        }
        check_types("types", &types)?;
        let types = set_types.then_some(types);
        let url = if url.is_empty() { Ok(None) } else { reachable(office, &url).await.map(Some) };
        let answer = self.write("dalp.webhook.v1.WebhookService/UpdateWebhook", &request, nothing, async |write| {
            let (tenant, url) = (write.tenant().to_owned(), url?);
            own(write, id).await?;
            rows::update(write.commit, id, url.as_deref(), types.as_deref(), state).await?;
            let body = json!({"url": url, "types": types, "state": state.map(State::as_str)});
            write.leaf(&tenant, "webhook.update", &id.to_string(), body).await?;
            Ok(UpdateWebhookResponse { webhook: Some(found(write, id).await?.into()) })
        });
        Ok(answer.await?)
    }

    async fn delete_webhook(
        &self,
        request: Request<DeleteWebhookRequest>,
    ) -> Result<Response<DeleteWebhookResponse>, Status> {
        let id = webhook_id(&request.get_ref().webhook_id)?;
        let why = reason(&request.get_ref().reason)?;
        let answer = self.write("dalp.webhook.v1.WebhookService/DeleteWebhook", &request, nothing, async |write| {
            let tenant = write.tenant().to_owned();
            own(write, id).await?;
            let row = found(write, id).await?;
            rows::delete(write.commit, id).await?;
            let body = json!({"reason": why, "url": row.url, "pending": row.pending, "dead": row.dead});
            write.leaf(&tenant, "webhook.delete", &id.to_string(), body).await?;
            Ok(DeleteWebhookResponse {})
        });
        Ok(answer.await?)
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<RotateWebhookSecretRequest>,
    ) -> Result<Response<RotateWebhookSecretResponse>, Status> {
        let office = self.office()?;
        let id = webhook_id(&request.get_ref().webhook_id)?;
        let overlap_s = request.get_ref().overlap_s;
        if overlap_s > MOST_OVERLAP_S {
            return Err(invalid_field("overlap_s", format!("must be at most {MOST_OVERLAP_S} (30 days)")).into());
        }
        let hide = |answer: &mut RotateWebhookSecretResponse| answer.secret.clear();
        let answer = self.write("dalp.webhook.v1.WebhookService/RotateWebhookSecret", &request, hide, async |write| {
            let tenant = write.tenant().to_owned();
            own(write, id).await?;
            let secret = new_secret(write, office, id, overlap_s).await?;
            write.leaf(&tenant, "webhook.rotate_secret", &id.to_string(), json!({"overlap_s": overlap_s})).await?;
            Ok(RotateWebhookSecretResponse { webhook: Some(found(write, id).await?.into()), secret })
        });
        Ok(answer.await?)
    }

    async fn test_webhook(
        &self,
        request: Request<TestWebhookRequest>,
    ) -> Result<Response<TestWebhookResponse>, Status> {
        self.office()?;
        let id = webhook_id(&request.get_ref().webhook_id)?;
        let answer = self.write("dalp.webhook.v1.WebhookService/TestWebhook", &request, nothing, async |write| {
            let tenant = write.tenant().to_owned();
            own(write, id).await?;
            if found(write, id).await?.state != State::Active {
                let why = "the webhook is not active; let it go on with UpdateWebhook";
                return Err(Refusal::new(Reason::FailedPrecondition, why));
            }
            let letter = Letter::test(&TenantId::new(tenant.as_str()), id, OffsetDateTime::now_utc());
            let event_id = letter.event_id.clone();
            queue::post(write.commit, id, &[(OutboxCursor::default(), letter)], false).await?;
            let body = json!({"event_id": event_id});
            write.leaf(&tenant, "webhook.test", &id.to_string(), body).await?;
            Ok(TestWebhookResponse { event_id })
        });
        Ok(answer.await?)
    }

    async fn replay_deliveries(
        &self,
        request: Request<ReplayDeliveriesRequest>,
    ) -> Result<Response<ReplayDeliveriesResponse>, Status> {
        self.office()?;
        let id = webhook_id(&request.get_ref().webhook_id)?;
        let what = match request.get_ref().what.clone() {
            Some(What::EventId(event_id)) => {
                fields::bounded_string("event_id", &event_id, 1, MAX_EVENT_ID_CHARACTERS).map_err(invalid)?;
                Replay::Event(event_id)
            }
            Some(What::Dead(true)) => Replay::Dead,
            Some(What::After(after)) => Replay::After(events::cursor(&after)?.ok_or_else(foreign_page_token)?),
            Some(What::Dead(false)) | None => {
                return Err(invalid_field("what", "say what is to be sent again: event_id, dead or after").into());
            }
        };
        let answer = self.write("dalp.webhook.v1.WebhookService/ReplayDeliveries", &request, nothing, async |write| {
            let tenant = write.tenant().to_owned();
            own(write, id).await?;
            let (count, body) = match &what {
                Replay::Event(event_id) => {
                    if !queue::exists(write.commit, id, event_id).await? {
                        let why = "the webhook has no delivery of this event";
                        return Err(Refusal::new(Reason::NotFound, why).meta("event_id", event_id));
                    }
                    (queue::reopen(write.commit, id, Some(event_id)).await?, json!({"event_id": event_id}))
                }
                Replay::Dead => (queue::reopen(write.commit, id, None).await?, json!({"dead": true})),
                Replay::After(after) => {
                    queue::rewind(write.commit, id, *after).await?;
                    (0, json!({"after": events::token(*after)}))
                }
            };
            write.leaf(&tenant, "webhook.replay", &id.to_string(), body).await?;
            Ok(ReplayDeliveriesResponse { deliveries: u32::try_from(count).unwrap_or(u32::MAX) })
        });
        Ok(answer.await?)
    }

    async fn get_webhook(&self, request: Request<GetWebhookRequest>) -> Result<Response<GetWebhookResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let row = self.read_webhook(&caller, webhook_id(&request.get_ref().webhook_id)?).await?;
        Ok(Response::new(GetWebhookResponse { webhook: Some(row.into()) }))
    }

    async fn list_webhooks(
        &self,
        request: Request<ListWebhooksRequest>,
    ) -> Result<Response<ListWebhooksResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let ListWebhooksRequest { page_size: asked, page_token } = request.get_ref();
        let after = match page_token.as_str() {
            "" => Uuid::nil(),
            token => token.parse().map_err(|_| foreign_page_token())?,
        };
        let size = page_size(*asked)?;
        let rows =
            rows::list(&self.store().pool, caller.tenant.as_str(), after, size + 1).await.map_err(Refusal::from)?;
        let (rows, next_page_token) = page(rows, size, |row| row.id.to_string());
        Ok(Response::new(ListWebhooksResponse {
            webhooks: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let asked = request.get_ref();
        let id = webhook_id(&asked.webhook_id)?;
        let before = match asked.page_token.as_str() {
            "" => i64::MAX,
            token => token.parse().ok().filter(|place: &i64| *place > 0).ok_or_else(foreign_page_token)?,
        };
        let state = match asked.state() {
            wire::DeliveryState::Unspecified => None,
            wire::DeliveryState::Pending => Some(DeliveryState::Pending),
            wire::DeliveryState::Delivered => Some(DeliveryState::Delivered),
            wire::DeliveryState::Dead => Some(DeliveryState::Dead),
        };
        let size = page_size(asked.page_size)?;
        self.read_webhook(&caller, id).await?;
        let rows = queue::list(&self.store().pool, id, state, before, size + 1).await.map_err(Refusal::from)?;
        let (rows, next_page_token) = page(rows, size, |row| row.position.to_string());
        let deliveries = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(ListDeliveriesResponse { deliveries, next_page_token }))
    }
}

/// What is to be sent again.
enum Replay {
    Event(String),
    Dead,
    After(OutboxCursor),
}

// === impl Desk ===

impl Desk {
    fn office(&self) -> RefusalResult<&Office> {
        self.webhooks.as_deref().ok_or_else(|| {
            Refusal::new(
                Reason::FailedPrecondition,
                "this gateway sends no webhooks: its configuration has no [webhooks]",
            )
        })
    }

    async fn read_webhook(&self, caller: &Caller, id: Uuid) -> RefusalResult<WebhookRow> {
        let mut connection = self.store().pool.acquire().await.map_err(dalp_domain::store::during("read webhook"))?;
        rows::find(&mut connection, caller.tenant.as_str(), id).await?.ok_or_else(|| absent(id))
    }
}

/// A URL that may be called now. A call is made to nobody before the first delivery.
async fn reachable(office: &Office, url: &str) -> RefusalResult<String> {
    let checked = office.reach.check(url).await;
    checked.map(Into::into).map_err(|error| invalid_field("url", error.to_string()))
}

/// A webhook that an RPC may change, locked.
async fn own(write: &mut Write<'_>, id: Uuid) -> RefusalResult<()> {
    let tenant = write.tenant().to_owned();
    if rows::lock(write.commit, &tenant, id).await? { Ok(()) } else { Err(absent(id)) }
}

async fn found(write: &mut Write<'_>, id: Uuid) -> RefusalResult<WebhookRow> {
    let tenant = write.tenant().to_owned();
    rows::find(write.commit, &tenant, id).await?.ok_or_else(|| absent(id))
}

/// Makes a secret and stores it sealed.
async fn new_secret(write: &mut Write<'_>, office: &Office, webhook: Uuid, overlap_s: u32) -> RefusalResult<String> {
    let (secret, id) = (Secret::generate().map_err(Refusal::internal)?, Uuid::now_v7());
    let purpose = Purpose::WebhookSecret { webhook, secret: id };
    let sealed = office.keys.seal(purpose, secret.bytes()).map_err(Refusal::internal)?;
    if !rows::add_secret(write.commit, webhook, (id, &sealed), overlap_s).await? {
        let why = format!("{MOST_SECRETS} secrets are in force; rotate without an overlap to end those before");
        return Err(Refusal::new(Reason::FailedPrecondition, why));
    }
    Ok(secret.expose())
}

fn webhook_id(text: &str) -> RefusalResult<Uuid> {
    text.parse().map_err(|_| invalid_field("webhook_id", "not a webhook id: expected a UUID"))
}

fn absent(id: Uuid) -> Refusal {
    Refusal::new(Reason::NotFound, "the tenant has no such webhook").meta("webhook_id", id)
}

impl From<WebhookRow> for wire::Webhook {
    fn from(row: WebhookRow) -> Self {
        let state = match row.state {
            State::Active => wire::WebhookState::Active,
            State::Paused => wire::WebhookState::Paused,
            State::Disabled => wire::WebhookState::Disabled,
        };
        let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            webhook_id: row.id.to_string(),
            url: row.url,
            types: row.types,
            description: row.description,
            state: state.into(),
            reason: row.reason,
            secrets: count(row.secrets),
            pending: count(row.pending),
            dead: count(row.dead),
            cursor: events::token(row.after),
            created_at: Some(timestamp(row.created_at)),
            created_by: row.created_by,
        }
    }
}

impl From<DeliveryRow> for wire::Delivery {
    fn from(row: DeliveryRow) -> Self {
        let state = match row.state {
            DeliveryState::Pending => wire::DeliveryState::Pending,
            DeliveryState::Delivered => wire::DeliveryState::Delivered,
            DeliveryState::Dead => wire::DeliveryState::Dead,
        };
        Self {
            event_id: row.event_id,
            r#type: row.r#type,
            subject: row.subject,
            state: state.into(),
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            due_at: row.ended_at.is_none().then(|| timestamp(row.due_at)),
            last_status: u32::try_from(row.last_status).unwrap_or_default(),
            last_error: row.last_error,
            created_at: Some(timestamp(row.created_at)),
            ended_at: row.ended_at.map(timestamp),
        }
    }
}
