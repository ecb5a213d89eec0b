-- Of the resources of a lease, those that are asked for in the request of another one: they count as no request of their own.
ALTER TABLE headpond.lease ADD COLUMN riders bigint[] NOT NULL DEFAULT '{}';
