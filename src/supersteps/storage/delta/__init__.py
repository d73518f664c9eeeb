"""Checkpoints as differences: the rules that all SQL storages share."""
