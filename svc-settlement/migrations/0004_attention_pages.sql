-- What needs attention is read in pages, oldest first.

ALTER TABLE pair_attention ADD COLUMN number bigint;
UPDATE pair_attention a SET number = o.number
FROM (SELECT pair_id, kind, chain_id, row_number() OVER (ORDER BY since, kind, pair_id) AS number FROM pair_attention) o
WHERE (a.pair_id, a.kind, a.chain_id) = (o.pair_id, o.kind, o.chain_id);
ALTER TABLE pair_attention ALTER COLUMN number SET NOT NULL;
ALTER TABLE pair_attention ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY;
SELECT setval(pg_get_serial_sequence('pair_attention', 'number'), (SELECT coalesce(max(number), 0) + 1 FROM pair_attention), false);
CREATE UNIQUE INDEX pair_attention_oldest ON pair_attention (number);
DROP INDEX pair_attention_since;
COMMENT ON COLUMN pair_attention.number IS 'Later ones are higher.';
