-- The copies, to be read by people and apps: one row for each content that is kept, also of keys that are gone or no longer
-- polled. Times are texts of RFC 3339 in UTC, the state is that of the moment in which it is read.
CREATE VIEW headpond_snapshots AS
SELECT source.name AS source,
       r.key,
       CASE
           WHEN r.gone_since IS NOT NULL THEN 'gone'
           WHEN s.stale_after > (julianday('now') - 2440587.5) * 86400000000.0 THEN 'fresh'
           ELSE 'stale'
       END AS state,
       r.version,
       CAST(b.body AS text) AS body,
       strftime('%Y-%m-%dT%H:%M:%fZ', s.fetched_at / 1000000.0, 'unixepoch') AS fetched_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', s.stale_after / 1000000.0, 'unixepoch') AS stale_after,
       strftime('%Y-%m-%dT%H:%M:%fZ', b.changed_at / 1000000.0, 'unixepoch') AS changed_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.failing_since / 1000000.0, 'unixepoch') AS failing_since,
       r.failure_kind,
       r.failure_detail
FROM headpond_content AS b
JOIN headpond_resource AS r ON r.id = b.resource_id
JOIN headpond_schedule AS s ON s.resource_id = r.id
JOIN headpond_source AS source ON source.id = r.source_id;
