-- Where the keys of a source come from: its list in the configuration, files, queries, other sources, hands. A key is polled
-- while it is in at least one of them.

-- A program that knows nothing of them would retire keys that others list.
UPDATE headpond_meta SET value = '2' WHERE name = 'needs_format';

CREATE TABLE headpond_origin (
    id         integer PRIMARY KEY AUTOINCREMENT, -- never given twice, so that an outdated reading finds nothing
    source_id  integer NOT NULL REFERENCES headpond_source,
    name       text NOT NULL,              -- config, api, cli; file, query, source, and file:2 where there are several
    place      integer NOT NULL,           -- of several origins with the same key, the parameters of the first one hold
    about      text NOT NULL DEFAULT '',   -- the file, the query, the other source
    keys       integer NOT NULL DEFAULT 0,
    round      integer NOT NULL DEFAULT 0, -- how often it was begun to be read: only the latest reader may write
    mark       text,                       -- of what was read last, all of it; NULL: read it again
    synced_at  integer,                    -- when it was last read as a whole; NULL: never yet
    problem    text,                       -- what is wrong with it now
    problem_at integer,
    UNIQUE (source_id, name)
);

CREATE TABLE headpond_key_origin (
    origin_id   integer NOT NULL REFERENCES headpond_origin,
    resource_id integer NOT NULL REFERENCES headpond_resource ON DELETE CASCADE,
    params      text NOT NULL,             -- as this origin says
    PRIMARY KEY (origin_id, resource_id)
) WITHOUT ROWID;
CREATE INDEX headpond_key_origin_resource ON headpond_key_origin (resource_id);

-- Until now the configuration was where all came from.
INSERT INTO headpond_origin (source_id, name, place, keys, synced_at)
SELECT id, 'config', 0, (SELECT count(*) FROM headpond_resource AS r WHERE r.source_id = s.id AND r.retired_at IS NULL), 0
FROM headpond_source AS s;

INSERT INTO headpond_key_origin (origin_id, resource_id, params)
SELECT o.id, r.id, r.params
FROM headpond_resource AS r JOIN headpond_origin AS o ON o.source_id = r.source_id
WHERE r.retired_at IS NULL;
