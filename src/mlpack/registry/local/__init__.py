"""A registry in a directory: its rows are in SQLite, its blobs are files."""
