-- Contents that were replaced, where a source keeps them.

-- How many of a resource, and for how many microseconds after they were current; NULL: none.
ALTER TABLE headpond_source ADD COLUMN history_versions integer;
ALTER TABLE headpond_source ADD COLUMN history_keep integer;
ALTER TABLE headpond_source ADD COLUMN history_trimmed integer;  -- to how many they have been cut, all of them

CREATE TABLE headpond_history (
    id          integer PRIMARY KEY,
    resource_id integer NOT NULL REFERENCES headpond_resource ON DELETE CASCADE,
    version     integer NOT NULL,
    source_id   integer NOT NULL,
    changed_at  integer NOT NULL,          -- since when it was current
    until       integer NOT NULL,          -- until when
    gone        integer NOT NULL,          -- 1: it was not replaced then, but gone
    size        integer NOT NULL,          -- bytes of the body
    etag        blob NOT NULL,             -- our own
    headers     blob NOT NULL,
    body        blob NOT NULL,
    UNIQUE (resource_id, version)
);
CREATE INDEX headpond_history_until ON headpond_history (source_id, until);

-- How many there are of a source, and their bytes.
CREATE TABLE headpond_kept_size (
    source_id integer PRIMARY KEY,
    versions  integer NOT NULL,
    bytes     integer NOT NULL
);

CREATE TRIGGER headpond_history_enters AFTER INSERT ON headpond_history BEGIN
    INSERT INTO headpond_kept_size (source_id, versions, bytes) VALUES (new.source_id, 1, new.size)
    ON CONFLICT (source_id) DO UPDATE SET versions = versions + 1, bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER headpond_history_leaves AFTER DELETE ON headpond_history BEGIN
    UPDATE headpond_kept_size SET versions = versions - 1, bytes = bytes - old.size WHERE source_id = old.source_id;
END;
