"""Where checkpoints live: the ports, the rules of ownership, and one small file per storage."""
