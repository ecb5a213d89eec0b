-- Resources of which nothing is kept but that nothing may be kept of them.

-- A program that knows nothing of them would fetch them again.
UPDATE headpond.meta SET value = '4' WHERE name = 'needs_format';

-- Since then. Such a resource is retired, and never outlives its retention.
ALTER TABLE headpond.resource ADD COLUMN erased_at bigint;

-- Whether what is gone upstream is erased too: 1. It may come back.
ALTER TABLE headpond.source ADD COLUMN erase_gone smallint NOT NULL DEFAULT 0;
