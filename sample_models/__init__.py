"""Real, small models that the recipes beside this directory build: a vision, a tabular and a text one."""
