"""What the adapter keeps for a plain storage: records of runs, journal and inbox, in the process."""
