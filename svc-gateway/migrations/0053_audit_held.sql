-- A tenant whose leaves cannot be sealed holds nobody else's up.
CREATE TABLE audit_held (
    tenant  text        PRIMARY KEY,
    why     text        NOT NULL,
    held_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE audit_held IS
    'Tenants one of whose leaves cannot be read, or whose tree is damaged: from there on their leaves have no places, while others'' get theirs. Looked at again every few seconds; once somebody has mended it they are sealed in their order, and the row goes.';
