-- Counts that are kept, not counted, so that `status` reads a few hundred rows whatever the number of resources.
--
-- Triggers keep them, so that no statement can forget to, and an older program keeps them too.

-- How a resource stands: 0 well, +1 its latest refresh failed, +2 it is gone. `resource` decides, its trigger writes it
-- here, so that one narrow row says all that is counted.
ALTER TABLE headpond.schedule ADD COLUMN standing smallint NOT NULL DEFAULT 0;

CREATE FUNCTION headpond.standing(failures integer, gone_since bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE AS $$
    SELECT ((failures > 0)::integer + 2 * (gone_since IS NOT NULL)::integer)::smallint
$$;

UPDATE headpond.schedule s SET standing = headpond.standing(r.failures, r.gone_since)
  FROM headpond.resource r
 WHERE r.id = s.resource_id AND (r.failures > 0 OR r.gone_since IS NOT NULL);

-- What the census rounds its times up by: to the last microsecond of a span that is a power of two, and at most a 128th of
-- the time that the copy is fresh for, but at least a second.
CREATE FUNCTION headpond.rounding(fetched_at bigint, stale_after bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN stale_after - fetched_at < 1::bigint << 29 THEN (1::bigint << 20) - 1   -- 9 minutes: 1 second
                WHEN stale_after - fetched_at < 1::bigint << 31 THEN (1::bigint << 22) - 1   -- 36 minutes: 4 seconds
                WHEN stale_after - fetched_at < 1::bigint << 33 THEN (1::bigint << 24) - 1   -- 2.4 hours: 17 seconds
                WHEN stale_after - fetched_at < 1::bigint << 35 THEN (1::bigint << 26) - 1   -- 9.5 hours: 67 seconds
                WHEN stale_after - fetched_at < 1::bigint << 37 THEN (1::bigint << 28) - 1   -- 38 hours: 4.5 minutes
                WHEN stale_after - fetched_at < 1::bigint << 39 THEN (1::bigint << 30) - 1   -- 6.4 days: 18 minutes
                WHEN stale_after - fetched_at < 1::bigint << 41 THEN (1::bigint << 32) - 1   -- 25 days: 72 minutes
                WHEN stale_after - fetched_at < 1::bigint << 43 THEN (1::bigint << 34) - 1   -- 102 days: 4.8 hours
                ELSE (1::bigint << 36) - 1 END                                               -- 19 hours
$$;

-- How many resources that are polled are alike: the sum of `n` over the rows that are. Statements only add rows, of what
-- they took out and put in, so that no two of them ever wait for each other here; `fold_census` keeps the rows few.
CREATE TABLE headpond.census (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fetched_by  bigint NOT NULL,    -- fetched_at, rounded up; 0: never had content
    fresh_until bigint NOT NULL,    -- stale_after, rounded up; 0: never had content
    source_id   bigint NOT NULL,
    because     smallint NOT NULL,
    standing    smallint NOT NULL,
    n           bigint NOT NULL
);

INSERT INTO headpond.census (fetched_by, fresh_until, source_id, because, standing, n)
SELECT coalesce(fetched_at | headpond.rounding(fetched_at, stale_after), 0),
       coalesce(stale_after | headpond.rounding(fetched_at, stale_after), 0),
       source_id, because, standing, count(*)
  FROM headpond.schedule WHERE due_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5;

-- Adds up the rows that are alike. What another transaction is adding up, it leaves alone.
CREATE FUNCTION headpond.fold_census() RETURNS void
LANGUAGE sql AS $$
      WITH alike AS (
               SELECT unnest(array_agg(id)) AS id
                 FROM headpond.census
                GROUP BY fetched_by, fresh_until, source_id, because, standing
               HAVING count(*) > 1),
           mine AS MATERIALIZED (
               SELECT id FROM headpond.census WHERE id IN (SELECT id FROM alike) FOR UPDATE SKIP LOCKED),
           taken AS (
               DELETE FROM headpond.census WHERE id IN (SELECT id FROM mine) RETURNING *)
    INSERT INTO headpond.census (fetched_by, fresh_until, source_id, because, standing, n)
    SELECT fetched_by, fresh_until, source_id, because, standing, sum(n)
      FROM taken
     GROUP BY fetched_by, fresh_until, source_id, because, standing
    HAVING sum(n) <> 0
$$;

-- Nobody waits for whoever folds, so any statement may: one in fifty does.
CREATE FUNCTION headpond.keep_census() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO headpond.census (fetched_by, fresh_until, source_id, because, standing, n)
        SELECT coalesce(fetched_at | headpond.rounding(fetched_at, stale_after), 0),
               coalesce(stale_after | headpond.rounding(fetched_at, stale_after), 0),
               source_id, because, standing, -count(*)
          FROM old_rows WHERE due_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO headpond.census (fetched_by, fresh_until, source_id, because, standing, n)
        SELECT coalesce(fetched_at | headpond.rounding(fetched_at, stale_after), 0),
               coalesce(stale_after | headpond.rounding(fetched_at, stale_after), 0),
               source_id, because, standing, count(*)
          FROM new_rows WHERE due_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5;
    END IF;
    IF random() < 0.02 THEN
        PERFORM headpond.fold_census();
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER census_enter AFTER INSERT ON headpond.schedule
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION headpond.keep_census();

CREATE TRIGGER census_leave AFTER DELETE ON headpond.schedule
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION headpond.keep_census();

CREATE TRIGGER census_move AFTER UPDATE ON headpond.schedule
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headpond.keep_census();

-- The latest failure of each source, whether it has passed or not.
CREATE TABLE headpond.last_failure (
    source_id bigint PRIMARY KEY,
    key       text COLLATE "C" NOT NULL,
    at        bigint NOT NULL,
    kind      text NOT NULL,
    status    integer,
    detail    text NOT NULL
);

INSERT INTO headpond.last_failure (source_id, key, at, kind, status, detail)
SELECT DISTINCT ON (source_id) source_id, key, failed_at, failure_kind, failure_status, failure_detail
  FROM headpond.resource WHERE failures > 0 ORDER BY source_id, failed_at DESC;

-- Only an apply changes how resources stand, and it has locked their rows of `schedule` before. Sources go in order, as
-- everywhere. What is new is found by EXCEPT and not by a join, whose plan would be kept from a call with a few rows for
-- those with many.
CREATE FUNCTION headpond.note_standing() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT n.standing, array_agg(n.id) AS ids
          FROM (SELECT id, headpond.standing(failures, gone_since) AS standing FROM new_rows
                EXCEPT SELECT id, headpond.standing(failures, gone_since) FROM old_rows) AS n
         GROUP BY n.standing
    LOOP
        UPDATE headpond.schedule SET standing = changed.standing WHERE resource_id = ANY(changed.ids);
    END LOOP;
    INSERT INTO headpond.last_failure AS known (source_id, key, at, kind, status, detail)
    SELECT DISTINCT ON (source_id) source_id, key, failed_at, failure_kind, failure_status, failure_detail
      FROM (SELECT source_id, key, failed_at, failure_kind, failure_status, failure_detail
              FROM new_rows WHERE failures > 0
            EXCEPT SELECT source_id, key, failed_at, failure_kind, failure_status, failure_detail
              FROM old_rows WHERE failures > 0) AS n
     ORDER BY source_id, failed_at DESC
        ON CONFLICT (source_id) DO UPDATE
       SET key = excluded.key, at = excluded.at, kind = excluded.kind, status = excluded.status,
           detail = excluded.detail
     WHERE excluded.at >= known.at;
    RETURN NULL;
END $$;

CREATE TRIGGER resource_stands AFTER UPDATE ON headpond.resource
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headpond.note_standing();
