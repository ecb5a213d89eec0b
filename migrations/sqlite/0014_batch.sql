-- Of the resources of a lease, those that are asked for in the request of another one: they count as no request of their own.
ALTER TABLE headpond_lease ADD COLUMN riders text NOT NULL DEFAULT '[]'; -- a JSON array of ids
