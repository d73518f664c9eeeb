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
