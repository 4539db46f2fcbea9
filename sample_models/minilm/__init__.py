"""all-MiniLM-L6-v2, a text embedding model (fetched, not kept here), and pairs of texts to measure it with."""
