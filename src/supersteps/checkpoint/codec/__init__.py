"""The typed JSON codec: what is saved is what comes back, and loading runs no code named by it."""
