"""A process that stays: calls that run together through one engine, and HTTP to it."""
