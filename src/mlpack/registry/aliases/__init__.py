"""Aliases: names that move from release to release, and the gates that a release must pass first."""
