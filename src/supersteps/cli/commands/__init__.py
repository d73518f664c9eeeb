"""One module for each command, with the name `command` in it."""
