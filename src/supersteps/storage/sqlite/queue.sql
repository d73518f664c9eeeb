-- name: put
INSERT OR REPLACE INTO queue (run, queue, workflow_id, priority, ready_at, concurrency_key,
                              is_claimed, crashes, crashed_at, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: find
SELECT queue, workflow_id, priority, ready_at, concurrency_key, is_claimed, crashes, crashed_at,
       checksum
FROM queue WHERE run = ?

-- name: delete
DELETE FROM queue WHERE run = ?

-- name: held
SELECT r.run_id, r.workflow_id, q.concurrency_key, coalesce(q.is_claimed, 0)
FROM heads AS h INDEXED BY heads_held CROSS JOIN runs AS r USING (run)
     LEFT JOIN queue AS q USING (run)
WHERE h.lease_owner IS NOT NULL
UNION
SELECT r.run_id, r.workflow_id, q.concurrency_key, q.is_claimed
FROM queue AS q INDEXED BY queue_claimed CROSS JOIN runs AS r USING (run)
WHERE q.is_claimed

-- name: held_runs
SELECT r.run_id
FROM heads AS h INDEXED BY heads_held CROSS JOIN runs AS r USING (run)
WHERE h.lease_owner IS NOT NULL ORDER BY h.run

-- name: claimed
SELECT workflow_id, concurrency_key FROM queue WHERE is_claimed

-- name: next_priority
SELECT max(priority) FROM queue
WHERE queue = ? AND workflow_id = ? AND ready_at IS NOT NULL AND priority < ?

-- name: due
SELECT r.run_id, q.ready_at, q.concurrency_key
FROM queue AS q INDEXED BY queue_by_turn CROSS JOIN runs AS r USING (run)
WHERE q.queue = ? AND q.workflow_id = ? AND q.priority = ? AND q.ready_at <= ?
ORDER BY q.ready_at

-- name: next_ready_at
SELECT min(ready_at) FROM queue
WHERE queue = ? AND workflow_id = ? AND priority = ? AND ready_at IS NOT NULL

-- name: queued_workflows
SELECT DISTINCT workflow_id FROM queue WHERE queue = ? AND ready_at IS NOT NULL
