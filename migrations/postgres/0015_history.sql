-- Contents that were replaced, where a source keeps them.

-- How many of a resource, and for how many microseconds after they were current; NULL: none.
ALTER TABLE headpond.source
    ADD COLUMN history_versions bigint,
    ADD COLUMN history_keep bigint,
    ADD COLUMN history_trimmed bigint;     -- to how many they have been cut, all of them

CREATE TABLE headpond.history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource_id bigint NOT NULL REFERENCES headpond.resource ON DELETE CASCADE,
    version     bigint NOT NULL,
    source_id   bigint NOT NULL,
    changed_at  bigint NOT NULL,           -- since when it was current
    until       bigint NOT NULL,           -- until when
    gone        smallint NOT NULL,         -- 1: it was not replaced then, but gone
    size        bigint NOT NULL,           -- bytes of the body
    etag        bytea NOT NULL,            -- our own
    headers     bytea NOT NULL,
    body        bytea NOT NULL,
    UNIQUE (resource_id, version)
);
CREATE INDEX history_until ON headpond.history (source_id, until);

-- How many there are of a source, and their bytes: the sums over its rows. Statements only add rows, as to the census.
CREATE TABLE headpond.kept_size (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL,
    versions  bigint NOT NULL,
    bytes     bigint NOT NULL
);

CREATE FUNCTION headpond.note_kept_size() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO headpond.kept_size (source_id, versions, bytes)
        SELECT source_id, -count(*), -sum(size) FROM old_rows GROUP BY source_id;
    ELSE
        INSERT INTO headpond.kept_size (source_id, versions, bytes)
        SELECT source_id, count(*), sum(size) FROM new_rows GROUP BY source_id;
    END IF;
    IF random() < 0.02 THEN
          WITH mine AS MATERIALIZED (
                   SELECT id FROM headpond.kept_size FOR UPDATE SKIP LOCKED),
               taken AS (
                   DELETE FROM headpond.kept_size WHERE id IN (SELECT id FROM mine) RETURNING *)
        INSERT INTO headpond.kept_size (source_id, versions, bytes)
        SELECT source_id, sum(versions), sum(bytes) FROM taken GROUP BY source_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER history_enters AFTER INSERT ON headpond.history
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION headpond.note_kept_size();

CREATE TRIGGER history_leaves AFTER DELETE ON headpond.history
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION headpond.note_kept_size();
