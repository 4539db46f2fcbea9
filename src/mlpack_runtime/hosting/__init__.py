"""A package as a process that stays: what it is told, how it starts, serves and ends; alone, or with a queue beside it."""
