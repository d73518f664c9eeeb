"""What a checkpoint is: its records, its codec, its face to users."""
