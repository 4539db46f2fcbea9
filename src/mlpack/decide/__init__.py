"""Hold numbers against budgets and choose. Pure: nothing in this room opens a file."""
