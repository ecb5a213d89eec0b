-- The typed tables of sources. The rows of each are in a table of its own, `headpond_typed_ID`, which the program makes
-- and drops; apps read views of the configured names.

-- A program that knows nothing of them would leave their rows behind.
UPDATE headpond_meta SET value = '3' WHERE name = 'needs_format';

CREATE TABLE headpond_typed (
    id         integer PRIMARY KEY AUTOINCREMENT,           -- never given twice
    source_id  integer NOT NULL REFERENCES headpond_source,
    state      text NOT NULL,              -- filling: it has no views yet; live; left: it has none any more
    definition text NOT NULL,              -- as it was configured, in JSON
    columns    text NOT NULL DEFAULT '[]', -- those of its views, in their order, in JSON
    schema     text,                       -- never set: SQLite has none
    filled     text NOT NULL DEFAULT '',   -- copies of keys up to this one have their rows
    misfits    integer NOT NULL DEFAULT 0,  -- copies among them that have none, since they don't fit
    misfit     text                        -- the first of those, and why
);
CREATE UNIQUE INDEX headpond_typed_source ON headpond_typed (source_id, state) WHERE state <> 'left';
