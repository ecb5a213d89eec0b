-- When keys were last read that exist because someone reads them: those that readers have asked for, and no others, have a
-- time here.
ALTER TABLE headpond.key_origin ADD COLUMN read_at bigint;
CREATE INDEX key_origin_read ON headpond.key_origin (origin_id, read_at) WHERE read_at IS NOT NULL;
