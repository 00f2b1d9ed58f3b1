"""From rows on disk to global batches."""
