-- How an upstream stands with us: pauses and pace, a JSON object; NULL: nothing to tell.
ALTER TABLE headpond.upstream ADD COLUMN standing text;
