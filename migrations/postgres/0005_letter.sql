-- What an upstream said with a copy besides its content, rewritten only when it says otherwise.
ALTER TABLE headpond.resource
    ADD COLUMN terms text,                          -- a JSON object; NULL: the copy is always answered
    ADD COLUMN transformed smallint NOT NULL DEFAULT 0, -- 1: it came with status 203
    ADD COLUMN moved_to text;                       -- the path that a 301 or 308 leads to
