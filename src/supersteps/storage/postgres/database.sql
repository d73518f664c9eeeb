-- name: exists
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = %s),
       to_regclass('supersteps.migrations') IS NOT NULL

-- name: foreign_tables
SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))

-- name: version
SELECT COALESCE(max(number), 0) FROM supersteps.migrations

-- name: lock
-- Held until the transaction ends; the key is that of the schema's name.
SELECT pg_advisory_xact_lock(hashtextextended(%s, 1400204147))

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS supersteps

-- name: create_migrations
CREATE TABLE IF NOT EXISTS supersteps.migrations (
    number integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)

-- name: note_migration
INSERT INTO supersteps.migrations (number) VALUES (%s)

-- name: settings
SELECT current_setting('superstep.direct', true), current_setting('synchronous_commit'),
       current_setting('server_version_num')::integer, pg_is_in_recovery()

-- name: limit
SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)

-- name: begin
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE

-- name: begin_read
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: transaction
SELECT pg_current_xact_id()::text

-- name: outcome
SELECT pg_xact_status(%s::text::xid8)

-- name: vacuum
VACUUM (ANALYZE) {tables}
