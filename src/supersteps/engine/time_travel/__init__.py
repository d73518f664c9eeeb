"""Going on from any checkpoint: resumed, forked, repeated, or brought to another graph."""
