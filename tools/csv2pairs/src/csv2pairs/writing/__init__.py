"""Rows of the output files.

example_rows       pairs as rows of `examples`
unique_texts       each text once, as rows of `texts`
background_writer  a file is encoded while the next rows are made
"""
