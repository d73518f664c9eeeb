-- name: has_namesakes
SELECT EXISTS (SELECT 1 FROM saved WHERE checkpoint_id BETWEEN ? AND ?)

-- name: outdate_run
-- Whoever remembers the run has to look again.
UPDATE heads SET revision = revision + 1 WHERE run = (SELECT run FROM runs WHERE run_id = ?)

-- name: read
SELECT saved, checkpoint_id, header, entries, checksum FROM saved WHERE checkpoint_id = ?

-- name: list
SELECT saved, checkpoint_id, header, entries, checksum FROM saved ORDER BY saved

-- name: insert
INSERT INTO saved (checkpoint_id, header, entries, checksum) VALUES (?, ?, ?, ?)

-- name: update
UPDATE saved SET entries = ?, checksum = ? WHERE saved = ?

-- name: delete
DELETE FROM saved WHERE saved = ?
