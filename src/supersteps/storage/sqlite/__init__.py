"""What `SqliteCheckpointStorage` is made of, from the disk upwards.

- `database`: the file: opening, checking and migrating it; its errors as the library's
- `jobs`, `writer`: the one connection that writes, for several runs in one transaction
- `readers`: connections that read
- `run_rows`, `checkpoint_rows`, `saved_rows`, `parts`: the statements, by table
- `tables`: all of them, as the rules of `storage/delta` want them
"""
