"""The command line: `supersteps`. What is to be done is the service layer's; here it is asked for and shown."""

from __future__ import annotations

from supersteps.cli.app import main

__all__ = ["main"]
