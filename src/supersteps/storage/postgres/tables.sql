-- name: find_runs
SELECT h.run, r.run_id, r.workflow_id, r.status, r.created_at, r.metadata, r.tags, r.parent_run, r.parent_checkpoint,
       r.incarnation,
       h.head, h.sequence, h.branch, h.epoch, h.revision, h.lease_owner, h.lease_expires, h.updated_at, h.fingerprint,
       h.error, h.requests, h.inbox_read, h.commit_id, h.checksum,
       CASE WHEN h.requests <> '[]' THEN
           ARRAY(SELECT w.request_id FROM supersteps.waiting AS w WHERE w.run = r.run ORDER BY w.number) END,
       CASE WHEN h.requests <> '[]' THEN
           ARRAY(SELECT w.checksum FROM supersteps.waiting AS w WHERE w.run = r.run ORDER BY w.number) END,
       extract(epoch FROM clock_timestamp())::float8
FROM {source} JOIN supersteps.heads AS h USING (run)
WHERE {conditions}

-- name: from_runs
supersteps.runs AS r

-- name: from_tags
supersteps.run_tags AS t JOIN supersteps.runs AS r USING (run)

-- name: waiting_for
r.run IN (SELECT w.run FROM supersteps.waiting AS w WHERE w.request_id = %(request_id)s)
ORDER BY r.created_at, r.run_id

-- name: lock
-- A statement of its own: the next one sees what whoever held the lock has written.
SELECT h.run FROM supersteps.heads AS h
WHERE h.run = (SELECT r.run FROM supersteps.runs AS r WHERE r.run_id = %(run_id)s)
FOR UPDATE

-- name: now
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: next_run
SELECT nextval('supersteps.run_keys')

-- name: insert_run
INSERT INTO supersteps.runs
    (run, run_id, workflow_id, status, created_at, metadata, tags, parent_run, parent_checkpoint, incarnation, checksum)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: insert_tags
INSERT INTO supersteps.run_tags (tag, created_at, run_id, run)
SELECT DISTINCT tag, %(created_at)s, %(run_id)s, %(run)s::bigint FROM unnest(%(tags)s::text[]) AS tag

-- name: insert_head
INSERT INTO supersteps.heads
    (head, sequence, branch, epoch, lease_owner, lease_expires, updated_at, fingerprint, error, requests, inbox_read,
     commit_id, checksum, run, revision)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: update_head
-- The fence, as in commits.sql.
UPDATE supersteps.heads
SET head = %s, sequence = %s, branch = %s, epoch = %s, lease_owner = %s, lease_expires = %s, updated_at = %s,
    fingerprint = %s, error = %s, requests = %s, inbox_read = %s, commit_id = %s, checksum = %s, revision = revision + 1
WHERE run = %s AND revision = %s
RETURNING run

-- name: update_status
UPDATE supersteps.runs SET status = %s WHERE run = %s

-- name: outdate_run
UPDATE supersteps.heads SET revision = revision + 1
WHERE run = (SELECT run FROM supersteps.runs WHERE run_id = %s)

-- name: delete_run
WITH head AS (DELETE FROM supersteps.heads WHERE run = %(run)s),
     tags AS (DELETE FROM supersteps.run_tags WHERE run = %(run)s),
     questions AS (DELETE FROM supersteps.waiting WHERE run = %(run)s),
     calls AS (DELETE FROM supersteps.journal WHERE run = %(run)s),
     answers AS (DELETE FROM supersteps.inbox WHERE run = %(run)s),
     rest AS (INSERT INTO supersteps.removed (run) VALUES (%(run)s))
DELETE FROM supersteps.runs WHERE run = %(run)s

-- name: indexed_tags
SELECT tag FROM supersteps.run_tags WHERE run = %s

-- name: insert_waiting
INSERT INTO supersteps.waiting (request_id, run, number, checksum)
SELECT request.id, %(run)s,
       (SELECT COALESCE(max(number), 0) FROM supersteps.waiting WHERE run = %(run)s) + request.place, request.checksum
FROM unnest(%(asked)s::text[], %(checksums)s::bigint[]) WITH ORDINALITY AS request (id, checksum, place)

-- name: delete_waiting
DELETE FROM supersteps.waiting WHERE request_id = ANY (%s::text[]) AND run = %s

-- name: removed
SELECT run FROM supersteps.removed ORDER BY run

-- name: forget_removed
DELETE FROM supersteps.removed WHERE run = %s

-- name: run_keys
SELECT run, run_id, workflow_id, metadata, incarnation, checksum FROM supersteps.runs WHERE {conditions} ORDER BY run

-- name: chain
-- A checkpoint, and all before it back to one that is whole: mostly all that it builds on.
SELECT sequence, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM supersteps.checkpoints
WHERE run = %(run)s AND sequence <= %(sequence)s
  AND sequence >= COALESCE((SELECT max(sequence) FROM supersteps.checkpoints
                            WHERE run = %(run)s AND sequence <= %(sequence)s AND whole = 1), %(sequence)s)
ORDER BY sequence DESC LIMIT %(limit)s

-- name: rows
SELECT sequence, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM supersteps.checkpoints WHERE run = %s AND sequence > %s ORDER BY sequence LIMIT %s

-- name: rows_before
SELECT sequence, run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum
FROM supersteps.checkpoints WHERE run = %s AND sequence <= %s ORDER BY sequence DESC LIMIT %s

-- name: rows_of_renamed
SELECT r.run, r.run_id, r.workflow_id, r.metadata, r.incarnation, r.checksum,
       c.sequence, c.run, c.sequence, c.parent, c.iteration, c.whole, c.workflow_id, c.facts, c.entries, c.checksum
FROM supersteps.checkpoints AS c JOIN supersteps.runs AS r USING (run)
WHERE c.workflow_id = %(workflow_id)s AND r.workflow_id <> %(workflow_id)s

-- name: lost_runs
SELECT c.run, count(*) FROM supersteps.checkpoints AS c
WHERE NOT EXISTS (SELECT 1 FROM supersteps.runs AS r WHERE r.run = c.run)
  AND NOT EXISTS (SELECT 1 FROM supersteps.removed AS r WHERE r.run = c.run)
GROUP BY c.run ORDER BY c.run

-- name: insert_checkpoint
INSERT INTO supersteps.checkpoints
    (run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: update_checkpoint
UPDATE supersteps.checkpoints
SET parent = %s, iteration = %s, whole = %s, workflow_id = %s, facts = %s, entries = %s, checksum = %s
WHERE run = %s AND sequence = %s

-- name: delete_checkpoints
DELETE FROM supersteps.checkpoints WHERE run = %s AND sequence = ANY (%s::bigint[])

-- name: delete_some_checkpoints
WITH gone AS (
    DELETE FROM supersteps.checkpoints
    WHERE run = %(run)s AND sequence IN
        (SELECT sequence FROM supersteps.checkpoints WHERE run = %(run)s ORDER BY sequence LIMIT %(limit)s)
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: find_saved
SELECT saved, checkpoint_id, header, entries, checksum FROM supersteps.saved WHERE checkpoint_id = %s

-- name: saved
SELECT saved, checkpoint_id, header, entries, checksum FROM supersteps.saved WHERE saved > %s ORDER BY saved LIMIT %s

-- name: has_namesakes
SELECT EXISTS (SELECT 1 FROM supersteps.saved WHERE checkpoint_id BETWEEN %s AND %s)

-- name: insert_saved
INSERT INTO supersteps.saved (checkpoint_id, header, entries, checksum) VALUES (%s, %s, '', 0) RETURNING saved

-- name: fill_saved
UPDATE supersteps.saved SET entries = %s, checksum = %s WHERE saved = %s

-- name: delete_saved
DELETE FROM supersteps.saved WHERE saved = %s

-- name: chunk
SELECT data FROM supersteps.chunks WHERE owner = %s AND hash = %s

-- name: chunks
SELECT hash, data FROM supersteps.chunks WHERE owner = %s AND hash = ANY (%s::bytea[])

-- name: insert_chunks
INSERT INTO supersteps.chunks (owner, hash, data)
SELECT %s, piece.hash, piece.data FROM unnest(%s::bytea[], %s::bytea[]) AS piece (hash, data)
ON CONFLICT (owner, hash) DO NOTHING

-- name: delete_chunks
DELETE FROM supersteps.chunks WHERE owner = %s AND hash = ANY (%s::bytea[])

-- name: delete_some_chunks
WITH gone AS (
    DELETE FROM supersteps.chunks
    WHERE owner = %(run)s AND hash IN (SELECT hash FROM supersteps.chunks WHERE owner = %(run)s LIMIT %(limit)s)
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: list
SELECT base, base_length FROM supersteps.lists WHERE list = %s

-- name: lists_of_owner
SELECT list FROM supersteps.lists WHERE owner = %s

-- name: insert_list
INSERT INTO supersteps.lists (owner, base, base_length) VALUES (%s, %s, %s) RETURNING list

-- name: delete_lists
DELETE FROM supersteps.lists WHERE list = ANY (%s::bigint[])

-- name: has_item
SELECT 1 FROM supersteps.list_items WHERE list = %s AND position = %s

-- name: items
SELECT position, data, checksum FROM supersteps.list_items
WHERE list = %s AND position >= %s AND position < %s ORDER BY position LIMIT %s

-- name: insert_items
INSERT INTO supersteps.list_items (list, position, data, checksum)
SELECT %s, item.position, item.data, item.checksum
FROM unnest(%s::bigint[], %s::bytea[], %s::bigint[]) AS item (position, data, checksum)

-- name: delete_items
DELETE FROM supersteps.list_items WHERE list = %s AND position >= %s

-- name: delete_some_items
WITH gone AS (
    DELETE FROM supersteps.list_items AS i
    USING (SELECT list, position FROM supersteps.list_items
           WHERE list IN (SELECT list FROM supersteps.lists WHERE owner = %(run)s) LIMIT %(limit)s) AS few
    WHERE i.list = few.list AND i.position = few.position
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: delete_lists_of_owner
DELETE FROM supersteps.lists WHERE owner = %s

-- name: journal
SELECT number, record, checksum FROM supersteps.journal WHERE run = %s AND head = %s ORDER BY number

-- name: is_journalled
SELECT EXISTS (SELECT 1 FROM supersteps.journal WHERE run = %s AND head = %s)

-- name: insert_journal
INSERT INTO supersteps.journal (run, head, number, record, checksum)
SELECT %(run)s, %(head)s,
       (SELECT COALESCE(max(number), -1) FROM supersteps.journal WHERE run = %(run)s AND head = %(head)s) + entry.place,
       entry.record, entry.checksum
FROM unnest(%(records)s::bytea[], %(checksums)s::bigint[]) WITH ORDINALITY AS entry (record, checksum, place)

-- name: delete_journal
DELETE FROM supersteps.journal WHERE run = %s

-- name: inbox
SELECT number, request_id, value, received_at, checksum FROM supersteps.inbox WHERE run = %s ORDER BY number

-- name: newest_answer
SELECT COALESCE(max(number), 0) FROM supersteps.inbox WHERE run = %s

-- name: insert_inbox
INSERT INTO supersteps.inbox (run, number, request_id, value, received_at, checksum) VALUES (%s, %s, %s, %s, %s, %s)

-- name: delete_inbox
DELETE FROM supersteps.inbox WHERE run = %s AND number <= %s
