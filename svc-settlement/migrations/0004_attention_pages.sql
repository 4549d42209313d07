-- What needs attention is read in pages, oldest first.

ALTER TABLE pair_attention ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX pair_attention_oldest ON pair_attention (number);
DROP INDEX pair_attention_since;
COMMENT ON COLUMN pair_attention.number IS 'Later ones are higher.';
