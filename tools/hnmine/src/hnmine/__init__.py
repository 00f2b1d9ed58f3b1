"""hnmine: hard negatives that are negative.

Layers, each of which imports those below it alone:

cli                 the command: checks, inputs, output
output_rows         `neg`, scores and their kinds as columns of the rows
mine                one run: encode, search, select; the result as one frame
domain_search       candidates of a domain by rank
selection           which candidates become negatives: ranks, guards, draw, padding
guards              what may not become a negative: a registry of polars expressions
candidates          what is known of a candidate: a registry of columns
alternative_search  rankings by inverted lists, by BM25, fused
queries             the rows as queries: vectors, known answers, scores of positives
pool                the distinct texts to choose from
search              the exact ranking
bf16_topk           the kernel of the exact search on a CPU with bf16 tiles
faiss_library       FAISS, where it is installed
options             the command line
"""
