-- name: find
SELECT r.run, r.run_id, r.workflow_id, r.status, r.created_at, r.metadata, r.tags, r.parent_run, r.parent_checkpoint,
       r.incarnation,
       h.head, h.sequence, h.branch, h.epoch, h.revision, h.lease_owner, h.lease_expires, h.updated_at, h.fingerprint,
       h.error, h.requests, h.inbox_read, h.commit_id, h.checksum
FROM runs AS r JOIN heads AS h USING (run)
WHERE r.run_id = ?

-- name: revision
SELECT revision FROM heads WHERE run = ?

-- name: find_waiting
SELECT r.run, r.run_id, r.workflow_id, r.status, r.created_at, r.metadata, r.tags, r.parent_run, r.parent_checkpoint,
       r.incarnation,
       h.head, h.sequence, h.branch, h.epoch, h.revision, h.lease_owner, h.lease_expires, h.updated_at, h.fingerprint,
       h.error, h.requests, h.inbox_read, h.commit_id, h.checksum
FROM waiting AS w JOIN runs AS r USING (run) JOIN heads AS h USING (run)
WHERE w.request_id = ?
ORDER BY r.created_at, r.run_id

-- name: list
SELECT r.run, r.run_id, r.workflow_id, r.status, r.created_at, r.metadata, r.tags, r.parent_run, r.parent_checkpoint,
       r.incarnation,
       h.head, h.sequence, h.branch, h.epoch, h.revision, h.lease_owner, h.lease_expires, h.updated_at, h.fingerprint,
       h.error, h.requests, h.inbox_read, h.commit_id, h.checksum
FROM {source} AS r JOIN heads AS h USING (run)
WHERE {conditions}
ORDER BY {order}.created_at DESC, {order}.run_id DESC

-- name: insert
INSERT INTO runs (run_id, workflow_id, status, created_at, metadata, tags, parent_run, parent_checkpoint, incarnation)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: seal_key
UPDATE runs SET checksum = ? WHERE run = ?

-- name: seal_head
UPDATE heads SET checksum = ? WHERE run = ?

-- name: insert_head
INSERT INTO heads (head, sequence, branch, epoch, lease_owner, lease_expires, updated_at, fingerprint, error, requests,
                   inbox_read, commit_id, checksum, run, revision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_tag
INSERT OR IGNORE INTO run_tags (tag, created_at, run_id, run) VALUES (?, ?, ?, ?)

-- name: update_head
-- The fence. The revision stands for all that the writer has judged by: epoch, head, lease. If anybody has written
-- since, no row is updated, and the writer has to read and judge again.
UPDATE heads
SET head = ?, sequence = ?, branch = ?, epoch = ?, lease_owner = ?, lease_expires = ?, updated_at = ?, fingerprint = ?,
    error = ?, requests = ?, inbox_read = ?, commit_id = ?, checksum = ?, revision = revision + 1
WHERE run = ? AND revision = ?

-- name: advance_head
-- The fence once more, for a commit of the owner that changes neither questions nor anything of the run itself.
UPDATE heads
SET head = ?, sequence = ?, branch = ?, lease_expires = ?, updated_at = ?, inbox_read = ?, commit_id = ?, checksum = ?,
    revision = revision + 1
WHERE run = ? AND revision = ?

-- name: update_status
UPDATE runs SET status = ? WHERE run = ?

-- name: delete
DELETE FROM runs WHERE run = ?

-- name: delete_head
DELETE FROM heads WHERE run = ?

-- name: delete_tag
DELETE FROM run_tags WHERE tag = ? AND created_at = ? AND run_id = ?

-- name: insert_waiting
INSERT OR REPLACE INTO waiting (request_id, run, number, checksum) VALUES (?, ?, ?, ?)

-- name: delete_waiting
DELETE FROM waiting WHERE request_id = ? AND run = ?

-- name: read_waiting
SELECT number, request_id, checksum FROM waiting WHERE run = ? ORDER BY number

-- name: last_waiting
SELECT max(number) FROM waiting WHERE run = ?

-- name: delete_all_waiting
DELETE FROM waiting WHERE run = ?

-- name: count_waiting
UPDATE heads SET requests = ?, checksum = ? WHERE run = ?

-- name: read_journal
SELECT entry, head, record, checksum FROM journal WHERE entry BETWEEN ? AND ? ORDER BY entry

-- name: is_journalled
SELECT 1 FROM journal WHERE entry BETWEEN ? AND ? AND head = ? LIMIT 1

-- name: last_journal_entry
SELECT max(entry) FROM journal WHERE entry BETWEEN ? AND ?

-- name: insert_journal
INSERT INTO journal (entry, head, record, checksum) VALUES (?, ?, ?, ?)

-- name: seal_journal
UPDATE journal SET checksum = ? WHERE entry = ?

-- name: delete_journal
DELETE FROM journal WHERE entry BETWEEN ? AND ?

-- name: read_inbox
SELECT entry, request_id, value, received_at, checksum FROM inbox WHERE entry BETWEEN ? AND ? ORDER BY entry

-- name: newest_answer
SELECT max(entry) FROM inbox WHERE entry BETWEEN ? AND ?

-- name: insert_inbox
INSERT INTO inbox (entry, request_id, value, received_at, checksum) VALUES (?, ?, ?, ?, ?)

-- name: seal_inbox
UPDATE inbox SET checksum = ? WHERE entry = ?

-- name: indexed_tags
SELECT tag FROM run_tags WHERE run = ? AND run_id = ?

-- name: indexed_requests
SELECT request_id FROM waiting WHERE run = ?

-- name: keys
SELECT run, run_id FROM runs

-- name: delete_inbox
DELETE FROM inbox WHERE entry BETWEEN ? AND ?
