-- Collections: one walk over the pages of an upstream's list brings many resources, the members.

-- A program that knows nothing of them would ask for members one by one.
UPDATE headpond.meta SET value = '3' WHERE name = 'needs_format' AND value::integer < 3;

-- The number of the walk of all members that saw this one last.
ALTER TABLE headpond.schedule ADD COLUMN walk bigint;

-- A collection's walk is due, leased and failing as a resource is, and it is one: that with the empty key, which no member
-- can have. What follows is how far it has come.
CREATE TABLE headpond.walk (
    source_id   bigint PRIMARY KEY REFERENCES headpond.source,
    resource_id bigint NOT NULL UNIQUE REFERENCES headpond.resource ON DELETE CASCADE,
    fingerprint bigint,                         -- what was asked for; with another, nothing below holds
    number      bigint NOT NULL DEFAULT 0,      -- of the last walk that began
    kind        smallint,                       -- what it looks at: 1 all, 2 changes; NULL: it has ended
    began_at    bigint,
    pages       bigint NOT NULL DEFAULT 0,      -- that are stored of it
    next        text,                           -- what leads on from there; NULL: nothing does
    newest      text,                           -- the latest change that it saw
    left_out    text,                           -- the first item of it that could not be read
    since       text,                           -- from which time on changes are asked for
    swept_at    bigint,                         -- when the last complete walk of all members began
    held        bigint NOT NULL DEFAULT 0       -- how many members that one missed and left, being too many
);

-- The pages as the last walk of all members found them.
CREATE TABLE headpond.walk_page (
    source_id     bigint NOT NULL REFERENCES headpond.source,
    place         bigint NOT NULL,              -- from 0
    walk          bigint NOT NULL,              -- which walk found it so
    step          text,                         -- what led to it; NULL: it is the first
    next          text,                         -- what led on from it; NULL: nothing did
    etag          bytea,
    last_modified bytea,
    hash          bytea NOT NULL,               -- of its items
    members       bigint[] NOT NULL,
    PRIMARY KEY (source_id, place)
);
