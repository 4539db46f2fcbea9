"""A registry in a directory: rows in SQLite, bytes as files."""
