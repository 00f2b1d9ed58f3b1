"""csv2pairs: tables to query-positive pairs with hard negatives by category.

Imports go downward only; modules on one line may import each other, without a circle:

    cli, option_checks          the command line
    pipeline                    one run: straight through, or by way of the disk
    output_rows, writers        rows of the output files
    sampling                    what each example draws from the others
    pools                       seeded draws of distinct texts, without known answers
    splitting, partition        which split and file an example goes to
    shared_links                what connects examples
    stored_pairs                all examples of a run on disk
    pairs                       rows to examples, by mode
    rows, content_ids           rows of the table with their texts and ids
    table, keys, reasons        columns to read; keys of texts; why a row is dropped
    templates, options
"""
