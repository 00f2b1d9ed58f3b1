"""fletching-tune: from a table to a better embedding model, never worse, with a verdict."""
