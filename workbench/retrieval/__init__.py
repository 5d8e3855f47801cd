"""Passages looked up for each case, by words or by embeddings."""
