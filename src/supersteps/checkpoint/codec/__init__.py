"""The typed JSON codec: values to JSON and back, without loss."""
