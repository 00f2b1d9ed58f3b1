"""From table rows to pairs.

pair_builder  the pairs of a batch of rows, by mode
pair_batch    pairs with the keys by which they are split and sampled
content_ids   ids of pairs whose rows have none
stored_pairs  all pairs of a run on disk
sampling      the hard negatives, and in --mode group the positives, of each pair
"""
