-- What an upstream said with a copy besides its content, rewritten only when it says otherwise.
ALTER TABLE headpond.resource
    ADD COLUMN terms text,                          -- a JSON object; NULL: the copy is always answered
    ADD COLUMN transformed smallint NOT NULL DEFAULT 0, -- 1: it came with status 203
    ADD COLUMN moved_to text;                       -- the path that a 301 or 308 leads to

-- Bodies that could not become content, kept until something usable comes.
CREATE TABLE headpond.refused (
    resource_id  bigint PRIMARY KEY REFERENCES headpond.resource ON DELETE CASCADE,
    at           bigint NOT NULL,
    status       smallint NOT NULL,
    content_type bytea,
    size         bigint NOT NULL,    -- bytes that came
    body         bytea               -- the first 256 KiB; NULL: what `drop` names could be in it
);
