-- What identifies a run and what listings filter by; written seldom.
-- AUTOINCREMENT: a key that some process remembers never comes to mean another run.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    workflow_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    metadata BLOB NOT NULL,
    tags TEXT NOT NULL,
    parent_run TEXT,
    parent_checkpoint TEXT
) STRICT;

CREATE INDEX runs_by_age ON runs (created_at, run_id);
CREATE INDEX runs_by_workflow ON runs (workflow_id, created_at, run_id);
CREATE INDEX runs_by_status ON runs (status, created_at, run_id);

CREATE TABLE run_tags (
    tag TEXT NOT NULL,
    created_at TEXT NOT NULL,
    run_id TEXT NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (tag, created_at, run_id)
) STRICT, WITHOUT ROWID;

-- What changes with every superstep: small, and in no index, so that a commit rewrites one page of it.
CREATE TABLE heads (
    run INTEGER PRIMARY KEY,
    head INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    branch INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    revision INTEGER NOT NULL,     -- one more with every write to the row; whoever writes says which one it has read
    lease_owner BLOB,
    lease_expires REAL,
    updated_at TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    error TEXT,
    requests TEXT NOT NULL,
    inbox_read INTEGER NOT NULL,
    commit_id TEXT NOT NULL
) STRICT;

-- Runs by the requests that wait at their heads.
CREATE TABLE waiting (
    request_id TEXT NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (request_id, run)
) STRICT, WITHOUT ROWID;

-- Rows lie in the order in which they are written, whatever run they belong to: when many runs commit at once they
-- share pages. (Not WITHOUT ROWID: there, rows of more than a kilobyte would take an overflow page each.)
CREATE TABLE checkpoints (
    checkpoint INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    parent INTEGER,                  -- its sequence
    iteration INTEGER NOT NULL,
    whole INTEGER NOT NULL,          -- whether `entries` are all, or what differs from the parent
    workflow_id TEXT,                -- where it is not the run's
    facts BLOB NOT NULL,
    entries BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX checkpoints_of_run ON checkpoints (run, sequence);
CREATE INDEX checkpoints_of_other_workflows ON checkpoints (workflow_id) WHERE workflow_id IS NOT NULL;

-- Checkpoints that were saved by hand and belong to no run's lineage.
CREATE TABLE saved (
    saved INTEGER PRIMARY KEY AUTOINCREMENT,
    checkpoint_id TEXT NOT NULL UNIQUE,
    header BLOB NOT NULL,
    entries BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

-- Pieces of large values. An owner is a run, or the negated key of a checkpoint that was saved by hand.
CREATE TABLE chunks (
    chunk INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    owner INTEGER NOT NULL,          -- who brought it
    data BLOB NOT NULL
) STRICT;

-- Others who came upon the same piece later.
CREATE TABLE borrowers (
    chunk INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    PRIMARY KEY (chunk, owner)
) STRICT, WITHOUT ROWID;

-- Lists that grow by appending. One that began by appending to an older view of another goes on from that.
CREATE TABLE lists (
    list INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL,
    base INTEGER,
    base_length INTEGER NOT NULL
) STRICT;

CREATE INDEX lists_by_owner ON lists (owner);

CREATE TABLE list_items (
    item INTEGER PRIMARY KEY,
    list INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX list_items_of_list ON list_items (list, position);

-- Finished calls of the superstep that follows the head. Those of an earlier head are void, whether they are still
-- there or not.
CREATE TABLE journal (
    entry INTEGER PRIMARY KEY,       -- run << 32 | number
    head INTEGER NOT NULL,           -- the sequence of the checkpoint that they follow
    record BLOB NOT NULL
) STRICT;

-- Answers that no commit has consumed.
CREATE TABLE inbox (
    entry INTEGER PRIMARY KEY,       -- run << 32 | number
    request_id TEXT NOT NULL,
    value BLOB NOT NULL,
    received_at TEXT NOT NULL
) STRICT;
