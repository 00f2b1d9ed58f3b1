"""Training data from an LLM: tasks, examples, queries for passages, hard negatives, verdicts."""
