-- A certificate or an identity that is unbound, or that the configuration gives to another, is gone for its principal, and through whose hands it went stays known: what was ordered
-- with it may be carried out later.

CREATE TABLE unbound_hands (
    tenant_id    text NOT NULL,
    principal_id text NOT NULL,
    hand         text NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, hand),
    FOREIGN KEY (tenant_id, principal_id) REFERENCES principals
);
COMMENT ON TABLE unbound_hands IS 'Through whose hands certificates and identities of principals went that are not bound to them any more. Insert only.';
CREATE TRIGGER unbound_hands_insert_only BEFORE UPDATE OR DELETE ON unbound_hands FOR EACH ROW EXECUTE FUNCTION written_once();

CREATE FUNCTION remember_hands() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gateway.unbound_hands (tenant_id, principal_id, hand)
    SELECT OLD.tenant_id, OLD.principal_id, hand FROM unnest(OLD.hands) AS hand ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER certificates_hands_remembered AFTER DELETE OR UPDATE OF tenant_id, principal_id, hands ON certificates FOR EACH ROW EXECUTE FUNCTION remember_hands();
CREATE TRIGGER oidc_identities_hands_remembered AFTER DELETE OR UPDATE OF tenant_id, principal_id, hands ON oidc_identities FOR EACH ROW EXECUTE FUNCTION remember_hands();
