"""Masked next-token prediction: any decoder language model becomes a bidirectional text encoder."""
