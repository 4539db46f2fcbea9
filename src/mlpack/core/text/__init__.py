"""Text and numbers for people: written, read, and escaped for the place where they go."""
