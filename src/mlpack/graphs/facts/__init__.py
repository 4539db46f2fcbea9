"""What a graph says of itself without being run: shapes, precisions, overflow, the bytes and the work of its operators."""
