-- The typed tables of sources. The rows of each are in a table of its own, `headpond.typed_ID`, which the program makes
-- and drops; apps read views of the configured names, in another schema.

-- A program that knows nothing of them would leave their rows behind.
UPDATE headpond.meta SET value = '3' WHERE name = 'needs_format';

CREATE TABLE headpond.typed (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- never given twice
    source_id  bigint NOT NULL REFERENCES headpond.source,
    state      text NOT NULL,              -- filling: it has no views yet; live; left: it has none any more
    definition text NOT NULL,              -- as it was configured, in JSON
    columns    text NOT NULL DEFAULT '[]', -- those of its views, in their order, in JSON
    schema     text,                       -- where its views are
    filled     text NOT NULL DEFAULT '',   -- copies of keys up to this one have their rows
    misfits    bigint NOT NULL DEFAULT 0,  -- copies among them that have none, since they don't fit
    misfit     text                        -- the first of those, and why
);
CREATE UNIQUE INDEX typed_source ON headpond.typed (source_id, state) WHERE state <> 'left';
