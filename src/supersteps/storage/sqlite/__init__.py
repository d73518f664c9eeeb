"""What `SqliteCheckpointStorage` is made of, from the disk upwards.

- `database`: the file: opening, checking and migrating it; its errors as the library's
- `jobs`, `writer`: the one connection that writes, inline or on a thread, for several runs in one transaction
- `readers`: connections that read
- `entries`: what a checkpoint's row says of each part: its value, or where the value is
- `parts`: values and lists that are too large for a row
- `run_rows`, `checkpoint_rows`, `saved_rows`: runs; their checkpoints, each as what differs from its parent; others
- `heads`, `commits`: what is remembered of runs at work, and what changes them
- `reading`, `inspection`: checkpoints as they are handed out, and whether they are intact
- `upkeep`, `verification`: deleting and pruning; reading everything
"""
