"""Speed, as ratios to hand-written floors that are measured in the same run."""
