-- name: insert
-- What was saved by hand keeps its id; see `has_namesakes`.
INSERT INTO checkpoints (run, sequence, parent, iteration, whole, facts, entries, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: rename
UPDATE checkpoints SET workflow_id = ? WHERE run = ? AND sequence = ?

-- name: update
UPDATE checkpoints
SET parent = ?, iteration = ?, whole = ?, workflow_id = ?, facts = ?, entries = ?, checksum = ?
WHERE checkpoint = ?

-- name: read
SELECT checkpoint, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM checkpoints WHERE run = ? AND sequence = ?

-- name: read_run
SELECT checkpoint, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM checkpoints WHERE run = ? ORDER BY sequence

-- name: read_of_other_workflow
SELECT checkpoint, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM checkpoints WHERE workflow_id = ?

-- name: lineage
SELECT checkpoint, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM checkpoints WHERE run = ? AND sequence <= ? ORDER BY sequence DESC

-- name: run_keys
SELECT run, run_id, workflow_id, metadata, incarnation, checksum FROM runs ORDER BY run

-- name: run_key
SELECT run, run_id, workflow_id, metadata, incarnation, checksum FROM runs WHERE run_id = ?

-- name: run_keys_of_workflow
SELECT run, run_id, workflow_id, metadata, incarnation, checksum FROM runs WHERE workflow_id = ? ORDER BY run

-- name: run_by_key
SELECT run, run_id, workflow_id, metadata, incarnation, checksum FROM runs WHERE run = ?

-- name: of_no_run
SELECT run, count(*) FROM checkpoints WHERE run NOT IN (SELECT run FROM runs) GROUP BY run ORDER BY run

-- name: delete
DELETE FROM checkpoints WHERE checkpoint = ?
