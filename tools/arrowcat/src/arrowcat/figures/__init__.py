"""What the rows are like, in figures; nothing here knows how they are shown.

distributions, text_measure, group_statistics, table_statistics
                   lengths, scores, nulls, duplicates, groups
hardest_negatives  negatives that score near their positive
near_duplicates    texts that say nearly the same
"""
