"""arrowcat: look at rows, check them and convert them.

Layers, each of which imports those below it alone:

cli         the command: checks, what to do
views       what is shown: rows, figures, a check, lineage, a page
page        one HTML page
terminal    rows and figures on a terminal
figures     lengths, scores, duplicates, hard negatives
rows        inputs, selection, check, conversion
printable   control characters made visible
options     the command line
"""
