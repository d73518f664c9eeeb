-- name: read_chunk
SELECT data FROM chunks WHERE hash = ?

-- name: insert_chunk
INSERT INTO chunks (hash, owner, data) VALUES (?, ?, ?) ON CONFLICT (hash) DO NOTHING

-- name: find_chunk
SELECT chunk, owner FROM chunks WHERE hash = ?

-- name: borrow
INSERT OR IGNORE INTO borrowers (chunk, owner) VALUES (?, ?)

-- name: give_back
DELETE FROM borrowers WHERE chunk = ? AND owner = ?

-- name: borrower
SELECT owner FROM borrowers WHERE chunk = ? LIMIT 1

-- name: pass_on
UPDATE chunks SET owner = ? WHERE chunk = ?

-- name: delete_chunk
DELETE FROM chunks WHERE chunk = ?

-- name: insert_list
INSERT INTO lists (owner, base, base_length) VALUES (?, ?, ?)

-- name: read_list
SELECT base, base_length FROM lists WHERE list = ?

-- name: lists_of_owner
SELECT list FROM lists WHERE owner = ?

-- name: delete_list
DELETE FROM lists WHERE list = ?

-- name: has_item
SELECT 1 FROM list_items WHERE list = ? AND position = ?

-- name: insert_item
INSERT INTO list_items (list, position, data, checksum) VALUES (?, ?, ?, ?)

-- name: read_items
SELECT position, data, checksum FROM list_items WHERE list = ? AND position >= ? AND position < ? ORDER BY position

-- name: delete_items
DELETE FROM list_items WHERE list = ? AND position >= ?
