-- Webhooks: how far each has got with the change feed, and what its endpoint has not taken.

CREATE TABLE headpond.webhook (
    name         text PRIMARY KEY,
    number       bigint NOT NULL,           -- all entries of the feed up to this one are sent, or in the queue
    tag          bigint NOT NULL,
    failures     bigint NOT NULL DEFAULT 0, -- in a row, of whatever resources
    paused_until bigint,                    -- nothing is sent before
    dead_since   bigint,                    -- nothing is sent until someone resumes it
    error        text,                      -- what was wrong last
    error_at     bigint,
    delivered    bigint NOT NULL DEFAULT 0,
    worker       text,                      -- who sends
    lease_until  bigint NOT NULL DEFAULT 0
);

-- What was refused, and all that came of the same resource since: these are sent in their order.
CREATE TABLE headpond.webhook_queue (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook       text NOT NULL,
    source        text NOT NULL,            -- '': the endpoint is told to start from the list
    key           text COLLATE "C" NOT NULL,
    number        bigint NOT NULL,
    tag           bigint NOT NULL,
    kind          text NOT NULL,
    version       bigint NOT NULL,
    at            bigint NOT NULL,
    attempts      bigint NOT NULL DEFAULT 0,
    failing_since bigint,
    next_at       bigint                    -- NULL: behind another one of its resource
);
CREATE INDEX webhook_queue_resource ON headpond.webhook_queue (webhook, source, key, id);
CREATE INDEX webhook_queue_next ON headpond.webhook_queue (webhook, next_at) WHERE next_at IS NOT NULL;
