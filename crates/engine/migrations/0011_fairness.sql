-- One tenant's flood starves nobody: what tenants share is taken from each in turn, and within a lane what is urgent goes first.

-- By tenant, so that a share of each is found without looking at the flood.
DROP INDEX engine.operations_wake;
CREATE INDEX operations_wake ON engine.operations (service, tenant, retry_at) WHERE wake;
DROP INDEX engine.steps_to_sign;
CREATE INDEX steps_to_sign ON engine.steps (service, tenant, due_at) WHERE due_at IS NOT NULL;
-- What the quota of a tenant counts.
CREATE INDEX operations_running_of_tenant ON engine.operations (service, tenant) WHERE state = 'RUNNING';

-- The place of a transaction in its lane: lower first, then in the order in which they came.
ALTER TABLE engine.transactions ADD COLUMN priority smallint NOT NULL DEFAULT 0;
DROP INDEX engine.transactions_queue;
CREATE INDEX transactions_queue ON engine.transactions (chain_id, sender, service, priority, sequence) WHERE state IN ('QUEUED', 'PREPARING');
