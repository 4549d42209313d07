-- What a configuration took back stays so until a newer one says otherwise, and caches are told of principals rather than of whole tenants.

ALTER TABLE configurations ADD COLUMN generation bigint NOT NULL DEFAULT 0 CHECK (generation >= 0), ADD COLUMN digest bytea CHECK (length(digest) = 32);
COMMENT ON COLUMN configurations.generation IS 'The generation that the applied configuration names. One that says something else is applied only with a greater one.';
COMMENT ON COLUMN configurations.digest IS 'SHA-256 of the tenants, roles and principals that were applied; null: none yet.';

-- 'p <tenant> <principal>' everything of a principal.
CREATE FUNCTION tell_principal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', 'p ' || coalesce(NEW.tenant_id, OLD.tenant_id) || ' ' || coalesce(NEW.principal_id, OLD.principal_id));
    RETURN NULL;
END $$;
DROP TRIGGER principals_told ON principals;
CREATE TRIGGER principals_told AFTER UPDATE OR DELETE ON principals FOR EACH ROW EXECUTE FUNCTION tell_principal();
DROP TRIGGER grants_told ON grants;
CREATE TRIGGER grants_told AFTER INSERT OR UPDATE OR DELETE ON grants FOR EACH ROW EXECUTE FUNCTION tell_principal();

-- A role concerns who holds it, and nobody when nothing of it has changed.
CREATE FUNCTION tell_holders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dalp_gateway', 'p ' || h.tenant_id || ' ' || h.principal_id)
        FROM (SELECT DISTINCT g.tenant_id, g.principal_id FROM gateway.grants g WHERE g.role = OLD.role) h;
    RETURN NULL;
END $$;
DROP TRIGGER roles_told ON roles;
CREATE TRIGGER roles_told AFTER UPDATE ON roles FOR EACH ROW WHEN (OLD.permissions IS DISTINCT FROM NEW.permissions) EXECUTE FUNCTION tell_holders();
DROP FUNCTION tell_all();
CREATE INDEX grants_of_role ON grants (role);
