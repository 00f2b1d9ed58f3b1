"""csv2pairs: tables to query-positive pairs with hard negatives by category.

Imports go downward only; modules on one line may import each other, without a circle:

    cli, option_checks          the command line
    pipeline                    one run: straight through, or by way of the disk
    writing                     rows of the output files
    pairing                     table rows to pairs; what each pair draws from the others
    negatives splitting partition
                                which texts may be negatives; which split and file a pair goes to
    readers                     tables of any format as batches of text cells
    templates, key_space, array_types, options
"""
