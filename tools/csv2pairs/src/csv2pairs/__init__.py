"""csv2pairs: tables to query-positive pairs with hard negatives by category."""
