"""Names that move between releases, and what a release must pass before."""
