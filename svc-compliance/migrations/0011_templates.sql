-- Templates of tenants, and what each asset was made from. The platform's own templates stand in the code: every tenant has them.

CREATE TABLE templates (
    tenant_id   text        NOT NULL,
    name        text        NOT NULL CHECK (name ~ '^[a-z0-9._-]{1,64}$'),
    asset_class text        NOT NULL,
    description text        NOT NULL,
    defaults    jsonb       NOT NULL CHECK (jsonb_typeof(defaults) = 'object'),
    created_by  text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE templates IS 'Templates that tenants derived from the platform''s. Never changed: another one takes another name, or the place of a deleted one.';
COMMENT ON COLUMN templates.defaults IS 'What it settles: ISIN, rules, features, roles, what holders need.';

ALTER TABLE assets
    ADD COLUMN template text,
    ADD COLUMN terms    jsonb,
    ADD CONSTRAINT assets_terms_of_class CHECK (terms IS NULL OR terms ? asset_class);
COMMENT ON COLUMN assets.template IS 'Name of the template it was ordered with. Null: ordered before there were any.';
COMMENT ON COLUMN assets.terms IS 'Its terms, under the name of its class. Null: as for the template.';
