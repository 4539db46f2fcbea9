"""Facts about a graph that need no run: shapes, precisions, overflow, the bytes and the work of its operators."""
