"""The adapter for plain storages, and what it keeps in the process."""
