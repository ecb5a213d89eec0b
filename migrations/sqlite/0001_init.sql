-- Headpond's own tables. What apps read of them is no stable interface. All times are microseconds since the Unix epoch.
-- src/store/mod.rs says what each table is for and which of them a refresh rewrites.

CREATE TABLE headpond_meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);
-- The lowest format number that a program must know to work with this database (see FORMAT in src/store).
INSERT INTO headpond_meta VALUES ('needs_format', '1');
-- 64 random bits in hexadecimal: spreads due times differently in each installation, and tags the place before the
-- feed's first entry.
INSERT INTO headpond_meta VALUES ('seed', lower(hex(randomblob(8))));

CREATE TABLE headpond_upstream (
    id                  integer PRIMARY KEY,
    name                text NOT NULL UNIQUE,
    requests_per_second real,           -- NULL: no limit
    burst               integer NOT NULL,
    max_concurrent      integer NOT NULL,
    tokens              real NOT NULL,
    tokens_at           integer NOT NULL,
    outages             integer NOT NULL DEFAULT 0  -- answers in a row that say "out of reach"
);

CREATE TABLE headpond_source (
    id                integer PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    upstream_id       integer NOT NULL REFERENCES headpond_upstream,
    keys              integer NOT NULL DEFAULT 0,      -- those that are polled
    ready             integer NOT NULL DEFAULT 0, -- latched: every key known at start has been tried
    gone_period_began integer NOT NULL DEFAULT 0,
    gone_in_period    integer NOT NULL DEFAULT 0
);

CREATE TABLE headpond_resource (
    id             integer PRIMARY KEY AUTOINCREMENT, -- never given twice, so no cache takes one resource for another
    source_id      integer NOT NULL REFERENCES headpond_source,
    key            text NOT NULL,
    params         text NOT NULL,                 -- a JSON object of texts
    retired_at     integer,                        -- no longer polled since
    version        integer NOT NULL DEFAULT 0,     -- 0: never had content
    content_hash   blob,
    etag           blob,                         -- the upstream's, as it was sent
    last_modified  blob,
    max_age        integer,                        -- seconds
    failures       integer NOT NULL DEFAULT 0,
    failing_since  integer,
    failed_at      integer,
    failure_kind   text,
    failure_status integer,
    failure_detail text,
    absences       integer NOT NULL DEFAULT 0,
    absent_since   integer,
    gone_since     integer,
    UNIQUE (source_id, key)
);
CREATE INDEX headpond_resource_retired ON headpond_resource (retired_at) WHERE retired_at IS NOT NULL;

CREATE TABLE headpond_schedule (
    resource_id integer PRIMARY KEY REFERENCES headpond_resource ON DELETE CASCADE,
    upstream_id integer NOT NULL,
    source_id   integer NOT NULL,
    due_at      integer,            -- NULL: never (retired); 0: before all others (asked for by hand)
    because     integer NOT NULL,
    wanted_at   integer,
    fetched_at  integer,
    stale_after integer
);
CREATE INDEX headpond_schedule_due ON headpond_schedule (upstream_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX headpond_schedule_new ON headpond_schedule (source_id) WHERE because = 1;
CREATE INDEX headpond_schedule_outage ON headpond_schedule (upstream_id) WHERE because = 5;

CREATE TABLE headpond_content (
    resource_id integer PRIMARY KEY REFERENCES headpond_resource ON DELETE CASCADE,
    etag        blob NOT NULL,    -- our own
    changed_at  integer NOT NULL,
    headers     blob NOT NULL,
    body        blob NOT NULL
);

CREATE TABLE headpond_lease (
    token       integer PRIMARY KEY,
    upstream_id integer NOT NULL,
    worker      text NOT NULL,
    granted_at  integer NOT NULL,
    expires_at  integer NOT NULL,
    resources   text NOT NULL   -- a JSON array of ids
);
CREATE INDEX headpond_lease_upstream ON headpond_lease (upstream_id);

CREATE TABLE headpond_change (
    number      integer PRIMARY KEY,
    tag         integer NOT NULL,
    resource_id integer NOT NULL,
    source      text NOT NULL,
    key         text NOT NULL,
    kind        text NOT NULL,
    version     integer NOT NULL,
    at          integer NOT NULL
);

CREATE TABLE headpond_applied (
    number    integer PRIMARY KEY,
    at        integer NOT NULL,
    resources text NOT NULL   -- a JSON array of ids
);

-- One row, locked last by each apply and until its commit: so numbers are given in commit order.
CREATE TABLE headpond_counter (
    only_row integer PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    changes  integer NOT NULL,
    applied  integer NOT NULL
);
INSERT INTO headpond_counter (changes, applied) VALUES (0, 0);
