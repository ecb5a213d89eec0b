-- Until when the upstream's own word keeps readers from having the resource asked for again, whenever it is due.
ALTER TABLE headpond.schedule ADD COLUMN kept_until bigint;
