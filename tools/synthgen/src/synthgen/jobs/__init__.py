"""One module for each thing that synthgen does: the requests it makes and the rows that come of the replies.

tasks       brainstorm: nothing → tasks
examples    tasks → examples, in the six groups of Wang et al. 2024 (arXiv 2401.00368)
queries     texts → examples: queries that a passage answers
enrich      examples → the same with more hard negatives, or a judge's scores
rewrite     examples → the same and more, with queries in other words or languages
"""
