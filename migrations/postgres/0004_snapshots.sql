-- NULL for bytes that are no text, so that one of them does not keep the others from being read.
CREATE FUNCTION headpond.text_of(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION
    WHEN character_not_in_repertoire OR untranslatable_character THEN RETURN NULL;
END $$;

-- The copies, to be read by people and apps: one row for each content that is kept, also of keys that are gone or no longer
-- polled. The state is that of the moment in which it is read; `body` is NULL where the content is no text.
CREATE VIEW headpond.snapshots AS
SELECT source.name AS source,
       r.key,
       CASE
           WHEN r.gone_since IS NOT NULL THEN 'gone'
           WHEN s.stale_after > extract(epoch FROM now()) * 1000000 THEN 'fresh'
           ELSE 'stale'
       END AS state,
       r.version,
       headpond.text_of(c.body) AS body,
       to_timestamp(s.fetched_at / 1000000.0) AS fetched_at,
       to_timestamp(s.stale_after / 1000000.0) AS stale_after,
       to_timestamp(c.changed_at / 1000000.0) AS changed_at,
       to_timestamp(r.failing_since / 1000000.0) AS failing_since,
       r.failure_kind,
       r.failure_detail
  FROM headpond.content AS c
  JOIN headpond.resource AS r ON r.id = c.resource_id
  JOIN headpond.schedule AS s ON s.resource_id = r.id
  JOIN headpond.source AS source ON source.id = r.source_id;
