"""The command line, `supersteps`: arguments in, service calls, text out."""

from __future__ import annotations

from supersteps.cli.app import main

__all__ = ["main"]
