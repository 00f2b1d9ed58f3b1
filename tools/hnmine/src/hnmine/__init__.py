"""hnmine: hard negatives that are negative.

Layers, each of which imports those below it alone:

cli                 the command and its checks
run                 inputs and output of a run: mine, search a part of the pool, merge, score
merging             negatives from the candidates of all parts of a pool
candidate_search    a part of a pool searched, as rows of `candidates`
mine                a whole pool mined: encode, search, select; the result as one frame
output_rows         `neg`, scores and their kinds as columns of the rows
merged_candidates   the candidates of all parts as those of one pool
candidate_files     files of `candidates`: which part each is of, and whether they fit
ranked_pool         a pool encoded and searched
mined_negatives     what was mined, and the account of it
int8_overlap        what --dtype int8 changes in the nearest texts of some queries
domain_search       candidates of a domain by rank
selection           which candidates become negatives: ranks, guards, draw, padding
guards              what may not become a negative: a registry of polars expressions
candidates          what is known of a candidate: a registry of columns
alternative_search  rankings by inverted lists, by BM25, fused
queries             the rows as queries: vectors, known answers, scores of positives
pool                the distinct texts to choose from
stored_texts        the texts and their hashes, in files
search              the exact ranking
bf16_topk           the kernel of the exact search on a CPU with bf16 units
faiss_library       FAISS, where it is installed
options             the command line
"""
