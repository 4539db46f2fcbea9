"""Words and numbers between people and programs: written, read, and made fit for where they go."""
