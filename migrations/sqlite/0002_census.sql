-- Counts that are kept, not counted, so that `status` reads a few hundred rows whatever the number of resources.
--
-- Triggers keep them, so that no statement can forget to, and an older program keeps them too.

-- How a resource stands: 0 well, +1 its latest refresh failed, +2 it is gone. `resource` decides, its trigger writes it
-- here, so that one narrow row says all that is counted.
ALTER TABLE headpond_schedule ADD COLUMN standing integer NOT NULL DEFAULT 0;

UPDATE headpond_schedule AS s SET standing = (r.failures > 0) + 2 * (r.gone_since IS NOT NULL)
FROM headpond_resource AS r
WHERE r.id = s.resource_id AND (r.failures > 0 OR r.gone_since IS NOT NULL);

-- What the census rounds its times up by: to the last microsecond of a span that is a power of two, and at most a 128th of
-- the time that the copy is fresh for, but at least a second. Not stored: SQLite computes it where it is read.
ALTER TABLE headpond_schedule ADD COLUMN rounding integer GENERATED ALWAYS AS (
    CASE WHEN stale_after - fetched_at < (1 << 29) THEN (1 << 20) - 1   -- 9 minutes: 1 second
         WHEN stale_after - fetched_at < (1 << 31) THEN (1 << 22) - 1   -- 36 minutes: 4 seconds
         WHEN stale_after - fetched_at < (1 << 33) THEN (1 << 24) - 1   -- 2.4 hours: 17 seconds
         WHEN stale_after - fetched_at < (1 << 35) THEN (1 << 26) - 1   -- 9.5 hours: 67 seconds
         WHEN stale_after - fetched_at < (1 << 37) THEN (1 << 28) - 1   -- 38 hours: 4.5 minutes
         WHEN stale_after - fetched_at < (1 << 39) THEN (1 << 30) - 1   -- 6.4 days: 18 minutes
         WHEN stale_after - fetched_at < (1 << 41) THEN (1 << 32) - 1   -- 25 days: 72 minutes
         WHEN stale_after - fetched_at < (1 << 43) THEN (1 << 34) - 1   -- 102 days: 4.8 hours
         ELSE (1 << 36) - 1 END                                         -- 19 hours
) VIRTUAL;

-- How many resources that are polled are alike. Its key begins with what differs most, which is found fastest.
CREATE TABLE headpond_census (
    fetched_by  integer NOT NULL,   -- fetched_at, rounded up; 0: never had content
    fresh_until integer NOT NULL,   -- stale_after, rounded up; 0: never had content
    source_id   integer NOT NULL,
    because     integer NOT NULL,
    standing    integer NOT NULL,
    n           integer NOT NULL,   -- more than 0
    PRIMARY KEY (fetched_by, fresh_until, source_id, because, standing)
) WITHOUT ROWID;

INSERT INTO headpond_census (fetched_by, fresh_until, source_id, because, standing, n)
SELECT coalesce(fetched_at | rounding, 0), coalesce(stale_after | rounding, 0), source_id, because, standing, count(*)
FROM headpond_schedule WHERE due_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5;

CREATE TRIGGER headpond_census_enter AFTER INSERT ON headpond_schedule BEGIN
    INSERT INTO headpond_census (fetched_by, fresh_until, source_id, because, standing, n)
    SELECT coalesce(new.fetched_at | new.rounding, 0), coalesce(new.stale_after | new.rounding, 0), new.source_id,
        new.because, new.standing, 1
    WHERE new.due_at IS NOT NULL
    ON CONFLICT (fetched_by, fresh_until, source_id, because, standing) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER headpond_census_leave AFTER DELETE ON headpond_schedule BEGIN
    UPDATE headpond_census SET n = n - 1
    WHERE old.due_at IS NOT NULL AND fetched_by = coalesce(old.fetched_at | old.rounding, 0)
        AND fresh_until = coalesce(old.stale_after | old.rounding, 0) AND source_id = old.source_id
        AND because = old.because AND standing = old.standing;
END;

CREATE TRIGGER headpond_census_move
AFTER UPDATE OF source_id, due_at, because, fetched_at, stale_after, standing ON headpond_schedule BEGIN
    UPDATE headpond_census SET n = n - 1
    WHERE old.due_at IS NOT NULL AND fetched_by = coalesce(old.fetched_at | old.rounding, 0)
        AND fresh_until = coalesce(old.stale_after | old.rounding, 0) AND source_id = old.source_id
        AND because = old.because AND standing = old.standing;
    INSERT INTO headpond_census (fetched_by, fresh_until, source_id, because, standing, n)
    SELECT coalesce(new.fetched_at | new.rounding, 0), coalesce(new.stale_after | new.rounding, 0), new.source_id,
        new.because, new.standing, 1
    WHERE new.due_at IS NOT NULL
    ON CONFLICT (fetched_by, fresh_until, source_id, because, standing) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER headpond_census_empty AFTER UPDATE OF n ON headpond_census WHEN new.n = 0 BEGIN
    DELETE FROM headpond_census
    WHERE fetched_by = new.fetched_by AND fresh_until = new.fresh_until AND source_id = new.source_id
        AND because = new.because AND standing = new.standing;
END;

CREATE TRIGGER headpond_resource_stands AFTER UPDATE OF failures, gone_since ON headpond_resource
WHEN (old.failures > 0) <> (new.failures > 0) OR (old.gone_since IS NULL) <> (new.gone_since IS NULL) BEGIN
    UPDATE headpond_schedule SET standing = (new.failures > 0) + 2 * (new.gone_since IS NOT NULL)
    WHERE resource_id = new.id;
END;

-- The latest failure of each source, whether it has passed or not.
CREATE TABLE headpond_last_failure (
    source_id integer PRIMARY KEY,
    key       text NOT NULL,
    at        integer NOT NULL,
    kind      text NOT NULL,
    status    integer,
    detail    text NOT NULL
);

-- Of the rows that max() looks at, the others' columns are those of the row that it finds.
INSERT INTO headpond_last_failure (source_id, key, at, kind, status, detail)
SELECT source_id, key, max(failed_at), failure_kind, failure_status, failure_detail
FROM headpond_resource WHERE failures > 0 GROUP BY source_id;

CREATE TRIGGER headpond_resource_fails AFTER UPDATE OF failed_at ON headpond_resource WHEN new.failures > 0 BEGIN
    INSERT INTO headpond_last_failure (source_id, key, at, kind, status, detail)
    VALUES (new.source_id, new.key, new.failed_at, new.failure_kind, new.failure_status, new.failure_detail)
    ON CONFLICT (source_id) DO UPDATE
    SET key = excluded.key, at = excluded.at, kind = excluded.kind, status = excluded.status, detail = excluded.detail
    WHERE excluded.at >= at;
END;
