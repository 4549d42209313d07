-- Webhooks: events of a tenant, brought to a receiver of its own.

CREATE TABLE webhooks (
    webhook_id     uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL REFERENCES tenants,
    url            text        NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    types          text[]      NOT NULL,
    description    text        NOT NULL,
    state          text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    reason         text        NOT NULL DEFAULT '' CHECK (state = 'disabled' OR reason = ''),
    after_xid      xid8        NOT NULL,
    after_sequence bigint      NOT NULL,
    again_xid      xid8,
    again_sequence bigint,
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text        NOT NULL,
    CHECK ((again_xid IS NULL) = (again_sequence IS NULL))
);
CREATE INDEX webhooks_of_tenant ON webhooks (tenant_id, webhook_id);
COMMENT ON TABLE webhooks IS
    'Where a tenant wants its events. after_xid and after_sequence: up to which event of the outbox deliveries were made; whoever makes more locks the row. again_xid and again_sequence: up to there events are sent again that were sent before.';

CREATE TABLE webhook_secrets (
    secret_id  uuid        PRIMARY KEY,
    webhook_id uuid        NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ends_at    timestamptz
);
CREATE INDEX webhook_secrets_of_webhook ON webhook_secrets (webhook_id);
CREATE UNIQUE INDEX webhook_secrets_one_without_end ON webhook_secrets (webhook_id) WHERE ends_at IS NULL;
COMMENT ON TABLE webhook_secrets IS
    'What deliveries are signed with, sealed under a key that is not in the database. One has no end; others go on for the overlap of a rotation and are deleted then.';

CREATE TABLE webhook_deliveries (
    position    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id  uuid        NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    subject     text        NOT NULL,
    body        text        NOT NULL,
    state       text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts    integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at      timestamptz NOT NULL DEFAULT now(),
    last_status integer     NOT NULL DEFAULT 0,
    last_error  text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    UNIQUE (webhook_id, event_id),
    CHECK ((ended_at IS NULL) = (state = 'pending'))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook_id, subject, position) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (webhook_id, position);
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook_id) WHERE state = 'dead';
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (ended_at) WHERE state = 'delivered';
COMMENT ON TABLE webhook_deliveries IS
    'One event on its way to one webhook. body: the bytes that are signed and sent, also in each repeat. A try is counted, and due_at put behind its deadline, before it is made; so a process that dies makes a repeat and no loss.';
