"""What a build left, for people and programs: the record, its pages, and comparisons of two."""
