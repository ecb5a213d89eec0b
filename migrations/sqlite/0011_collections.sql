-- Collections: one walk over the pages of an upstream's list brings many resources, the members.

-- A program that knows nothing of them would ask for members one by one.
UPDATE headpond_meta SET value = '3' WHERE name = 'needs_format' AND CAST(value AS integer) < 3;

-- The number of the walk of all members that saw this one last.
ALTER TABLE headpond_schedule ADD COLUMN walk integer;

-- A collection's walk is due, leased and failing as a resource is, and it is one: that with the empty key, which no member
-- can have. What follows is how far it has come.
CREATE TABLE headpond_walk (
    source_id   integer PRIMARY KEY REFERENCES headpond_source,
    resource_id integer NOT NULL UNIQUE REFERENCES headpond_resource ON DELETE CASCADE,
    fingerprint integer,                        -- what was asked for; with another, nothing below holds
    number      integer NOT NULL DEFAULT 0,     -- of the last walk that began
    kind        integer,                        -- what it looks at: 1 all, 2 changes; NULL: it has ended
    began_at    integer,
    pages       integer NOT NULL DEFAULT 0,     -- that are stored of it
    next        text,                           -- what leads on from there; NULL: nothing does
    newest      text,                           -- the latest change that it saw
    left_out    text,                           -- the first item of it that could not be read
    since       text,                           -- from which time on changes are asked for
    swept_at    integer,                        -- when the last complete walk of all members began
    held        integer NOT NULL DEFAULT 0      -- how many members that one missed and left, being too many
);

-- The pages as the last walk of all members found them.
CREATE TABLE headpond_walk_page (
    source_id     integer NOT NULL REFERENCES headpond_source,
    place         integer NOT NULL,             -- from 0
    walk          integer NOT NULL,             -- which walk found it so
    step          text,                         -- what led to it; NULL: it is the first
    next          text,                         -- what led on from it; NULL: nothing did
    etag          blob,
    last_modified blob,
    hash          blob NOT NULL,                -- of its items
    members       text NOT NULL,                -- a JSON array of ids
    PRIMARY KEY (source_id, place)
) WITHOUT ROWID;
