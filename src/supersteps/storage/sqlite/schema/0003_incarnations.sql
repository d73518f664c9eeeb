-- What tells a run from an earlier one of the same id, also where only its id is known. Runs that are there have none.
-- Their checksums, which are over the whole record, are made anew right after this script; leases, which are a part
-- of it, tell since then how long they last.
ALTER TABLE runs ADD COLUMN incarnation TEXT NOT NULL DEFAULT '';
