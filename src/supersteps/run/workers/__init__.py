"""Runs in a fleet: submitting them, the workers that drive them, watching them."""
