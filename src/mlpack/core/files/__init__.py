"""Files and archives that somebody else may have made, read within bounds; and temporary directories."""
