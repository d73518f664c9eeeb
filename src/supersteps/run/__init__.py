"""Workflows, and the runs of them: handles, streams of events, results."""
