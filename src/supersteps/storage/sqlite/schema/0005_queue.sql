-- Runs that workers may take. A superstep does not touch this table: only what hands a run on does.
CREATE TABLE queue (
    run INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    ready_at REAL,                       -- null while only something from outside makes it ready
    concurrency_key TEXT,
    is_claimed INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    crashed_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

-- The order in which they are taken.
CREATE INDEX queue_by_turn ON queue (queue, workflow_id, priority, ready_at)
WHERE ready_at IS NOT NULL;
CREATE INDEX queue_claimed ON queue (run) WHERE is_claimed;

-- Runs that have an owner, to be found when it has died. A superstep changes nothing of it.
CREATE INDEX heads_held ON heads (run) WHERE lease_owner IS NOT NULL;
