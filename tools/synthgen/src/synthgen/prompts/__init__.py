"""Prompts, attribute values and the files that hold them."""
