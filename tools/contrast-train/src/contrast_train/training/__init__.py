"""The training step, its evaluation and its trainer."""
