-- A nonce is given back only once every request for it was refused: what has no answer yet may still be signed.
CREATE OR REPLACE FUNCTION engine.guard_nonce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.chain_id, NEW.sender, NEW.nonce) IS DISTINCT FROM (OLD.chain_id, OLD.sender, OLD.nonce)
       OR (NEW.transaction_id <> OLD.transaction_id AND (NOT OLD.released OR NEW.released)) THEN
        RAISE EXCEPTION 'nonce % of chain % belongs to transaction %', OLD.nonce, OLD.chain_id, OLD.transaction_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.released AND NOT OLD.released AND EXISTS (
        SELECT FROM engine.attempts a WHERE a.chain_id = OLD.chain_id AND a.sender = OLD.sender AND a.nonce = OLD.nonce
           AND (a.raw IS NOT NULL OR a.state <> 'REFUSED')) THEN
        RAISE EXCEPTION 'nonce % of chain % may be signed for and cannot be released', OLD.nonce, OLD.chain_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
