"""docs2texts: a folder of documents as texts to search.

Layers, each of which imports those below it alone:

cli         the command: checks, output
pipeline    from files to rows, by way of the disk
chunking    blocks of a section to texts of at most so many tokens
repeats     equal and nearly equal texts, and blocks that many documents repeat
formats     a parser for each format: documents to blocks
decoding    bytes to text
files       the files of folders
tokens      how many tokens a text has
blocks      what a parser yields
options     the command line
"""
