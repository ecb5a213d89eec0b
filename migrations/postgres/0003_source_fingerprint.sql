-- What a source asks for and how often, as its owner's configuration last said; NULL until it says so.
ALTER TABLE headpond.source ADD COLUMN fingerprint bigint;
ALTER TABLE headpond.source ADD COLUMN cadence text;
