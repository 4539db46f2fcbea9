"""The ground that every room stands on: the records of a build, digests, text, and reading of foreign files."""
