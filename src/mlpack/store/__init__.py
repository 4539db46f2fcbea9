"""The store: trees of files named by their content, and the actions that made them, on this machine and shared between machines."""
