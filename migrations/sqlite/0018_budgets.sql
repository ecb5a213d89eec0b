-- How many requests an upstream may be sent in each of several windows: a JSON array; NULL: no such limit.
ALTER TABLE headpond_upstream ADD COLUMN budgets text;
-- What was never fetched (1) goes first where a budget decides.
CREATE INDEX headpond_schedule_new_due ON headpond_schedule (upstream_id, due_at) WHERE because = 1;
