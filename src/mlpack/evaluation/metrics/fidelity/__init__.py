"""Metrics that compare a candidate's answers with the float model's, where there are no labels."""
