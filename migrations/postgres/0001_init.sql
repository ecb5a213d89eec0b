-- Headpond's own tables. What apps read of them is no stable interface. All times are microseconds since the Unix epoch.
-- src/store/mod.rs says what each table is for and which of them a refresh rewrites.

CREATE TABLE headpond.meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);
-- The lowest format number that a program must know to work with this database (see FORMAT in src/store).
INSERT INTO headpond.meta VALUES ('needs_format', '1');
-- 64 random bits in hexadecimal: spreads due times differently in each installation, and tags the place before the
-- feed's first entry.
INSERT INTO headpond.meta VALUES ('seed', left(md5(gen_random_uuid()::text), 16));

CREATE TABLE headpond.upstream (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name                text NOT NULL UNIQUE,
    requests_per_second double precision,           -- NULL: no limit
    burst               integer NOT NULL,
    max_concurrent      integer NOT NULL,
    tokens              double precision NOT NULL,
    tokens_at           bigint NOT NULL,
    outages             integer NOT NULL DEFAULT 0  -- answers in a row that say "out of reach"
);

CREATE TABLE headpond.source (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    upstream_id       bigint NOT NULL REFERENCES headpond.upstream,
    keys              bigint NOT NULL DEFAULT 0,      -- those that are polled
    ready             boolean NOT NULL DEFAULT false, -- latched: every key known at start has been tried
    gone_period_began bigint NOT NULL DEFAULT 0,
    gone_in_period    bigint NOT NULL DEFAULT 0
);

CREATE TABLE headpond.resource (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id      bigint NOT NULL REFERENCES headpond.source,
    key            text COLLATE "C" NOT NULL,
    params         text NOT NULL,                 -- a JSON object of texts
    retired_at     bigint,                        -- no longer polled since
    version        bigint NOT NULL DEFAULT 0,     -- 0: never had content
    content_hash   bytea,
    etag           bytea,                         -- the upstream's, as it was sent
    last_modified  bytea,
    max_age        bigint,                        -- seconds
    failures       integer NOT NULL DEFAULT 0,
    failing_since  bigint,
    failed_at      bigint,
    failure_kind   text,
    failure_status integer,
    failure_detail text,
    absences       integer NOT NULL DEFAULT 0,
    absent_since   bigint,
    gone_since     bigint,
    UNIQUE (source_id, key)
);
CREATE INDEX resource_retired ON headpond.resource (retired_at) WHERE retired_at IS NOT NULL;

CREATE TABLE headpond.schedule (
    resource_id bigint PRIMARY KEY REFERENCES headpond.resource ON DELETE CASCADE,
    upstream_id bigint NOT NULL,
    source_id   bigint NOT NULL,
    due_at      bigint,            -- NULL: never (retired); 0: before all others (asked for by hand)
    because     smallint NOT NULL,
    wanted_at   bigint,
    fetched_at  bigint,
    stale_after bigint
);
CREATE INDEX schedule_due ON headpond.schedule (upstream_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedule_new ON headpond.schedule (source_id) WHERE because = 1;
CREATE INDEX schedule_outage ON headpond.schedule (upstream_id) WHERE because = 5;

CREATE TABLE headpond.content (
    resource_id bigint PRIMARY KEY REFERENCES headpond.resource ON DELETE CASCADE,
    etag        bytea NOT NULL,    -- our own
    changed_at  bigint NOT NULL,
    headers     bytea NOT NULL,
    body        bytea NOT NULL
);

CREATE TABLE headpond.lease (
    token       bigint PRIMARY KEY,
    upstream_id bigint NOT NULL,
    worker      text NOT NULL,
    granted_at  bigint NOT NULL,
    expires_at  bigint NOT NULL,
    resources   bigint[] NOT NULL
);
CREATE INDEX lease_upstream ON headpond.lease (upstream_id);

CREATE TABLE headpond.change (
    number      bigint PRIMARY KEY,
    tag         bigint NOT NULL,
    resource_id bigint NOT NULL,
    source      text NOT NULL,
    key         text NOT NULL,
    kind        text NOT NULL,
    version     bigint NOT NULL,
    at          bigint NOT NULL
);

CREATE TABLE headpond.applied (
    number    bigint PRIMARY KEY,
    at        bigint NOT NULL,
    resources bigint[] NOT NULL
);

-- One row, locked last by each apply and until its commit: so numbers are given in commit order.
CREATE TABLE headpond.counter (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    changes  bigint NOT NULL,
    applied  bigint NOT NULL
);
INSERT INTO headpond.counter (changes, applied) VALUES (0, 0);
