"""The commands: one module each, which defines `command`."""
