"""A worker: messages of a queue to their end, and where answers go."""
