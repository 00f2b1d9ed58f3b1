"""Commands as steps: one program each, keyed by content, run at most once."""
