"""`FileCheckpointStorage`: files, folders of runs, deletion, backup."""
