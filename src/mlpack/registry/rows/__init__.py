"""The rows of the table: their keys, their forms, and the rows that accompany releases."""
