-- What an upstream said with a copy besides its content, rewritten only when it says otherwise.
ALTER TABLE headpond_resource ADD COLUMN terms text;           -- a JSON object; NULL: the copy is always answered
ALTER TABLE headpond_resource ADD COLUMN transformed integer NOT NULL DEFAULT 0; -- 1: it came with status 203
ALTER TABLE headpond_resource ADD COLUMN moved_to text;        -- the path that a 301 or 308 leads to

-- Bodies that could not become content, kept until something usable comes.
CREATE TABLE headpond_refused (
    resource_id  integer PRIMARY KEY REFERENCES headpond_resource ON DELETE CASCADE,
    at           integer NOT NULL,
    status       integer NOT NULL,
    content_type blob,
    size         integer NOT NULL,   -- bytes that came
    body         blob                -- the first 256 KiB; NULL: what `drop` names could be in it
);
