"""Where checkpoints are stored: the ports, the rules, the storages."""
