-- Webhooks: how far each has got with the change feed, and what its endpoint has not taken.

CREATE TABLE headpond_webhook (
    name         text PRIMARY KEY,
    number       integer NOT NULL,           -- all entries of the feed up to this one are sent, or in the queue
    tag          integer NOT NULL,
    failures     integer NOT NULL DEFAULT 0, -- in a row, of whatever resources
    paused_until integer,                    -- nothing is sent before
    dead_since   integer,                    -- nothing is sent until someone resumes it
    error        text,                      -- what was wrong last
    error_at     integer,
    delivered    integer NOT NULL DEFAULT 0,
    worker       text,                      -- who sends
    lease_until  integer NOT NULL DEFAULT 0
);

-- What was refused, and all that came of the same resource since: these are sent in their order.
CREATE TABLE headpond_webhook_queue (
    id            integer PRIMARY KEY,
    webhook       text NOT NULL,
    source        text NOT NULL,            -- '': the endpoint is told to start from the list
    key           text NOT NULL,
    number        integer NOT NULL,
    tag           integer NOT NULL,
    kind          text NOT NULL,
    version       integer NOT NULL,
    at            integer NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    failing_since integer,
    next_at       integer                    -- NULL: behind another one of its resource
);
CREATE INDEX headpond_webhook_queue_resource ON headpond_webhook_queue (webhook, source, key, id);
CREATE INDEX headpond_webhook_queue_next ON headpond_webhook_queue (webhook, next_at) WHERE next_at IS NOT NULL;
