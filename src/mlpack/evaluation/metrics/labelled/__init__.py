"""Metrics that compare answers with labels. One module a task; numpy is loaded when something is scored."""
