"""How `FileCheckpointStorage` keeps checkpoints in a folder: their files, each run's own folder, and the upkeep."""
