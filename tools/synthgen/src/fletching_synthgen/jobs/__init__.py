"""One module a job: the requests that it makes, and the rows that their responses give.

registry         what a job is, and the jobs by name and by the schema that they read
tasks            nothing → tasks (brainstorm)
examples         tasks → examples, in the six groups of Wang et al. 2024 (arXiv 2401.00368)
queries          texts → examples: queries that a passage answers
hard_negatives   examples → the same with more hard negatives
judge            examples → the same with the scores of an LLM judge
rewrite          examples → the same and more, with paraphrased or translated queries

A job is registered beside its code. --help reads the names, so no module imports pyarrow at its
top.
"""
