"""How checkpoints are kept as differences: rules for every storage that uses SQL."""
