-- Where the keys of a source come from: its list in the configuration, files, queries, other sources, hands. A key is polled
-- while it is in at least one of them.

-- A program that knows nothing of them would retire keys that others list.
UPDATE headpond.meta SET value = '2' WHERE name = 'needs_format';

CREATE TABLE headpond.origin (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id  bigint NOT NULL REFERENCES headpond.source,
    name       text NOT NULL,              -- config, api, cli; file, query, source, and file:2 where there are several
    place      bigint NOT NULL,            -- of several origins with the same key, the parameters of the first one hold
    about      text NOT NULL DEFAULT '',   -- the file, the query, the other source
    keys       bigint NOT NULL DEFAULT 0,
    round      bigint NOT NULL DEFAULT 0,  -- how often it was begun to be read: only the latest reader may write
    mark       text,                       -- of what was read last, all of it; NULL: read it again
    synced_at  bigint,                     -- when it was last read as a whole; NULL: never yet
    problem    text,                       -- what is wrong with it now
    problem_at bigint,
    UNIQUE (source_id, name)
);

CREATE TABLE headpond.key_origin (
    origin_id   bigint NOT NULL REFERENCES headpond.origin,
    resource_id bigint NOT NULL REFERENCES headpond.resource ON DELETE CASCADE,
    params      text NOT NULL,             -- as this origin says
    PRIMARY KEY (origin_id, resource_id)
);
CREATE INDEX key_origin_resource ON headpond.key_origin (resource_id);

-- Until now the configuration was where all came from.
INSERT INTO headpond.origin (source_id, name, place, keys, synced_at)
SELECT s.id, 'config', 0, count(r.id), 0
  FROM headpond.source s LEFT JOIN headpond.resource r ON r.source_id = s.id AND r.retired_at IS NULL
 GROUP BY s.id;

INSERT INTO headpond.key_origin (origin_id, resource_id, params)
SELECT o.id, r.id, r.params
  FROM headpond.resource r JOIN headpond.origin o ON o.source_id = r.source_id
 WHERE r.retired_at IS NULL;
