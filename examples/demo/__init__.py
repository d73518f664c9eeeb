"""The demo: a real workflow that is killed in the middle, resumed, and none the worse for it."""
