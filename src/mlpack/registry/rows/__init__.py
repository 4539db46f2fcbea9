"""The rows of the table: their keys, their forms, and what is written beside releases."""
