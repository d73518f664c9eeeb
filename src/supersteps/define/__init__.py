"""What a user writes: executors and their handlers, edges, requests, policies, and the graph of them."""
