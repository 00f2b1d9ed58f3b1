"""csv2pairs: tables to query-positive pairs with hard negatives by category.

Imports go downward only; modules on one line may import each other, without a circle:

    cli
    pipeline                    one run: straight through, or by way of the disk
    outputs                     rows, texts and names of the output files
    sampling                    what each example draws from the others
    pools                       seeded draws of distinct texts, without known answers
    links                       what connects rows: splits, and texts that are no negatives
    stored_pairs                all examples and links of a run on disk
    examples                    rows to examples, by mode
    keys                        keys of texts; ids of content; drops by reason
    table, option_checks        columns to read and their texts; options that contradict each other
    options
"""
