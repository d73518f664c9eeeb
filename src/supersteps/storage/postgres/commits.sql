-- A commit is one statement, made of `fence`, `checkpoint`, those of the others that it needs, and a result.
-- All of it happens or nothing, in one round trip.

-- name: fence
-- The revision stands for all that the writer has judged by: epoch, head, lease. The update comes first and locks the
-- row; where somebody has written since, it finds none, and then nothing else finds one.
WITH fence AS (
    UPDATE supersteps.heads
    SET head = %(head)s, sequence = %(sequence)s, branch = %(branch)s, epoch = %(epoch)s,
        lease_owner = %(lease_owner)s,
        lease_expires = COALESCE(%(now)s::float8, extract(epoch FROM clock_timestamp())) + %(lease_seconds)s::float8,
        updated_at = %(updated_at)s, fingerprint = %(fingerprint)s, error = NULL, requests = %(requests)s,
        inbox_read = %(inbox_read)s, commit_id = %(commit_id)s, checksum = %(checksum)s, revision = revision + 1
    WHERE run = %(run)s AND revision = %(revision)s
    RETURNING run
)

-- name: checkpoint
, checkpoint AS (
    INSERT INTO supersteps.checkpoints
        (run, sequence, parent, iteration, whole, workflow_id, facts, entries, checksum)
    SELECT run, %(head)s, %(parent)s, %(iteration)s, %(whole)s, %(workflow_id)s, %(facts)s, %(entries)s,
           %(row_checksum)s
    FROM fence
)

-- name: status
, status AS (
    UPDATE supersteps.runs SET status = %(status)s WHERE run = (SELECT run FROM fence)
)

-- name: chunks
, new_chunks AS (
    INSERT INTO supersteps.chunks (owner, hash, data)
    SELECT fence.run, piece.hash, piece.data
    FROM fence, unnest(%(hashes)s::bytea[], %(pieces)s::bytea[]) AS piece (hash, data)
    ON CONFLICT (owner, hash) DO NOTHING
)

-- name: items
, new_items AS (
    INSERT INTO supersteps.list_items (list, position, data, checksum)
    SELECT item.list, item.position, item.data, item.checksum
    FROM fence, unnest(%(lists)s::bigint[], %(positions)s::bigint[], %(items)s::bytea[], %(checksums)s::bigint[])
         AS item (list, position, data, checksum)
)

-- name: ended
, ended AS (
    DELETE FROM supersteps.waiting WHERE request_id = ANY (%(ended)s::text[]) AND run = (SELECT run FROM fence)
)

-- name: asked
, asked AS (
    INSERT INTO supersteps.waiting (request_id, run, number, checksum)
    SELECT request.id, fence.run,
           (SELECT COALESCE(max(number), 0) FROM supersteps.waiting WHERE run = fence.run) + request.place,
           request.checksum
    FROM fence, unnest(%(asked)s::text[], %(asked_checksums)s::bigint[])
         WITH ORDINALITY AS request (id, checksum, place)
)

-- name: journal
, voided AS (
    DELETE FROM supersteps.journal WHERE run = (SELECT run FROM fence)
)

-- name: inbox
, consumed AS (
    DELETE FROM supersteps.inbox WHERE run = (SELECT run FROM fence) AND number <= %(inbox_read)s
)

-- name: result
SELECT 0 FROM fence

-- name: newest_answer
SELECT COALESCE((SELECT max(number) FROM supersteps.inbox WHERE run = fence.run), 0) FROM fence
