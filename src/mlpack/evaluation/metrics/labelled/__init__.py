"""Metrics that compare answers with labels. One module a task; numpy is imported when something is scored."""
