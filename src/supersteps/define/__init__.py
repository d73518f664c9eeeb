"""What a user writes: executors, edges, requests, policies, the graph."""
