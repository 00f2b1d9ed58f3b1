"""hnmine: hard negatives that are negative.

Layers, each of which imports those below it alone:

cli                    the command: checks, inputs, output
output_rows            `neg`, scores and their kinds as columns of the rows
mine                   one run: encode, search, select; the result as flat arrays
domain_search padding  candidates of a domain by rank; random texts for rows that are short
selection              which candidates become negatives: ranks, guards, draw
guards                 what may not become a negative: a registry of polars expressions
candidates             what is known of a candidate: a registry of columns
reranker_scores        scores of a cross-encoder, each pair once
queries                the rows as queries: vectors, known answers, scores of positives
pool                   the distinct texts to choose from
mining_rows            the rows on disk, by units and shards
alternative_search     rankings by inverted lists, by BM25, fused
search                 the exact ranking
bf16_topk              the kernel of the exact search on a CPU with bf16 tiles
models                 what encodes and what reranks
options rank_range     the command line; the ranks to choose from
arrays                 array types
"""
