"""texts2pairs: training pairs from texts alone, without an LLM.

Layers, each of which imports those below it alone:

cli            the command: checks, inputs, output
pipeline       from texts to rows, in two passes
ambiguity      queries that more than one section answers
text_queries   the queries of a text, and the text without them
prose          titles and sentences
code           docstrings and leading comments
options        the command line
"""
