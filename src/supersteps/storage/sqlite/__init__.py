"""The parts of `SqliteCheckpointStorage`, from the disk upwards.

- `database`: the file: opened, checked and migrated; its errors
- `jobs`, `writer`: the single connection that writes, for several runs in one transaction
- `readers`: connections that read
- `run_rows`, `checkpoint_rows`, `saved_rows`, `parts`: the statements, by table
- `tables`: all of them, for the rules of `storage/delta`
"""
