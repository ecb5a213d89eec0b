-- Resources of which nothing is kept but that nothing may be kept of them.

-- A program that knows nothing of them would fetch them again.
UPDATE headpond_meta SET value = '4' WHERE name = 'needs_format';

-- Since then. Such a resource is retired, and never outlives its retention.
ALTER TABLE headpond_resource ADD COLUMN erased_at integer;

-- Whether what is gone upstream is erased too: 1. It may come back.
ALTER TABLE headpond_source ADD COLUMN erase_gone integer NOT NULL DEFAULT 0;
