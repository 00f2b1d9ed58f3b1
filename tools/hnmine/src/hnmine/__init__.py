"""hnmine: hard negatives that are negative."""
