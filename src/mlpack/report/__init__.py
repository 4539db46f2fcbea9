"""Reports of a build, for people and programs: the record, its pages, and comparisons of two."""
