"""What `SqliteCheckpointStorage` is made of.

database       the file: opening, checking and migrating it; its errors as ours
writer         the one connection that writes: inline or on a thread, with others in one transaction
readers        connections that read
entries        what a checkpoint's row says of each part: its value, or where the value is
parts          values and lists that are too large for a row
run_rows       runs
checkpoint_rows  checkpoints, each as what differs from its parent
heads          what is remembered of runs at work, so that a commit reads nothing
commits        what changes a run, inside a transaction
upkeep         pruning, deleting, and collecting what nothing needs any more
verification   reading everything
"""
