"""Metrics, comparisons, contamination and quality gates."""
