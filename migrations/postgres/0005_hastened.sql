-- When a reader last waited for the resource: what was fetched just after that does for readers who come a moment later.
ALTER TABLE headpond.schedule ADD COLUMN hastened_at bigint;
