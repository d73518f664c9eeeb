"""The same work by other libraries: one small script each, run in an environment of its own."""
