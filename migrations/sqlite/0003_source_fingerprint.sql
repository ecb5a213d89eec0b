-- What a source asks for and how often, as its owner's configuration last said; NULL until it says so.
ALTER TABLE headpond_source ADD COLUMN fingerprint integer;
ALTER TABLE headpond_source ADD COLUMN cadence text;
