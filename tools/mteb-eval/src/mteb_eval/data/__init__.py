"""Evaluation data: collections, sentence pairs, tasks."""
