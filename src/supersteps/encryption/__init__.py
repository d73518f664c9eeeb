"""How records are sealed: keys, envelopes, and what binds the parts of a checkpoint together."""
