-- Secrets of webhooks are sealed as factors of persons are: by one of several keys, whose name stands beside what it sealed.
-- What is there was sealed under the one key that `webhooks.secrets_key` named: configure it as a sealing key of the name `webhooks`, behind the others.
ALTER TABLE webhook_secrets ADD COLUMN key_id text NOT NULL DEFAULT 'webhooks' CHECK (length(key_id) BETWEEN 1 AND 64);
ALTER TABLE webhook_secrets ALTER COLUMN key_id DROP DEFAULT;
-- The number of the one algorithm there was.
UPDATE webhook_secrets SET sealed = substr(sealed, 2) WHERE get_byte(sealed, 0) = 1;
ALTER TABLE webhook_secrets ADD CONSTRAINT webhook_secrets_sealed CHECK (length(sealed) > 40);
COMMENT ON COLUMN webhook_secrets.key_id IS 'The sealing key of the configuration.';
