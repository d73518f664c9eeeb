"""How a run advances: plan, execute, merge, commit."""
