-- Texts that are compared or sorted have the order of bytes, which is Python's and the same on every server.
-- There are no foreign keys: each would lock the run's row with every insertion. Whoever writes anything of a run
-- has locked its row in `heads` first.

CREATE SEQUENCE supersteps.run_keys;

-- What identifies a run and what listings filter by; seldom written.
CREATE TABLE supersteps.runs (
    run bigint PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL UNIQUE,
    workflow_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    created_at text COLLATE "C" NOT NULL,
    metadata bytea NOT NULL,
    tags text NOT NULL,
    parent_run text,
    parent_checkpoint text,
    incarnation text NOT NULL,
    checksum bigint NOT NULL               -- of the columns that checkpoints go by
);

CREATE INDEX runs_by_age ON supersteps.runs (created_at, run_id);
CREATE INDEX runs_by_workflow ON supersteps.runs (workflow_id, created_at, run_id);
CREATE INDEX runs_by_status ON supersteps.runs (status, created_at, run_id);

CREATE TABLE supersteps.run_tags (
    tag text COLLATE "C" NOT NULL,
    created_at text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    run bigint NOT NULL,
    PRIMARY KEY (tag, created_at, run_id)
);

CREATE INDEX run_tags_of_run ON supersteps.run_tags (run);

-- What changes with every superstep. No column but the key is indexed and pages are half empty, so that an update
-- stays on its page and leaves no index entry behind (HOT). What must be found by its time, such as what is due,
-- belongs into a table of its own for that reason.
CREATE TABLE supersteps.heads (
    run bigint PRIMARY KEY,
    head bigint NOT NULL,
    sequence bigint NOT NULL,
    branch bigint NOT NULL,
    epoch bigint NOT NULL,
    revision bigint NOT NULL,              -- one more with every write to the row; see `fence` in commits.sql
    lease_owner bytea,
    lease_expires float8,                  -- Unix time by the server's clock
    updated_at text NOT NULL,
    fingerprint text NOT NULL,
    error text,
    requests text NOT NULL,                -- how many wait, '[]' for none
    inbox_read bigint NOT NULL,
    commit_id text NOT NULL,
    checksum bigint NOT NULL               -- of the run's whole record, in both tables, but the lease's end
) WITH (fillfactor = 50);

-- Runs by the requests that wait at their heads.
CREATE TABLE supersteps.waiting (
    request_id text COLLATE "C" NOT NULL,
    run bigint NOT NULL,
    number bigint NOT NULL,                -- their order within the run
    checksum bigint NOT NULL,
    PRIMARY KEY (request_id, run)
);

CREATE INDEX waiting_of_run ON supersteps.waiting (run, number);

CREATE TABLE supersteps.checkpoints (
    run bigint NOT NULL,
    sequence bigint NOT NULL,
    parent bigint,                         -- its sequence
    iteration bigint NOT NULL,
    whole bigint NOT NULL,                 -- whether `entries` are all, or what differs from the parent
    workflow_id text COLLATE "C",          -- where it is not the run's
    facts bytea NOT NULL,
    entries bytea NOT NULL,
    checksum bigint NOT NULL,
    PRIMARY KEY (run, sequence)
);

CREATE INDEX checkpoints_of_other_workflows ON supersteps.checkpoints (workflow_id) WHERE workflow_id IS NOT NULL;

-- Checkpoints that were saved by hand and belong to no run's lineage.
CREATE TABLE supersteps.saved (
    saved bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    checkpoint_id text COLLATE "C" NOT NULL UNIQUE,
    header bytea NOT NULL,
    entries bytea NOT NULL,
    checksum bigint NOT NULL
);

-- Pieces of large values. An owner is a run, or the negated key of a checkpoint that was saved by hand. Each owner has
-- its own: what two runs share would have to be locked by both.
CREATE TABLE supersteps.chunks (
    owner bigint NOT NULL,
    hash bytea NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (owner, hash)
);

-- Lists that grow by appending. One that began by appending to an older view of another goes on from that.
CREATE TABLE supersteps.lists (
    list bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    owner bigint NOT NULL,
    base bigint,
    base_length bigint NOT NULL
);

CREATE INDEX lists_by_owner ON supersteps.lists (owner);

CREATE TABLE supersteps.list_items (
    list bigint NOT NULL,
    position bigint NOT NULL,
    data bytea NOT NULL,
    checksum bigint NOT NULL,
    PRIMARY KEY (list, position)
);

-- Finished calls of the superstep that follows a head. Those of an earlier head are void, whether they are still there
-- or not.
CREATE TABLE supersteps.journal (
    run bigint NOT NULL,
    head bigint NOT NULL,                  -- the sequence of the checkpoint that they follow
    number bigint NOT NULL,
    record bytea NOT NULL,
    checksum bigint NOT NULL,
    PRIMARY KEY (run, head, number)
);

-- Answers that no commit has consumed.
CREATE TABLE supersteps.inbox (
    run bigint NOT NULL,
    number bigint NOT NULL,
    request_id text NOT NULL,
    value bytea NOT NULL,
    received_at text NOT NULL,
    checksum bigint NOT NULL,
    PRIMARY KEY (run, number)
);

-- Runs that were deleted, while what they have left is deleted bit by bit.
CREATE TABLE supersteps.removed (
    run bigint PRIMARY KEY
);
