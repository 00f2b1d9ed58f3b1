"""The rows: opened, selected, checked and converted.

input_rows      inputs of any schema, or of none
row_condition   --where
row_selection   --where, --sample and --head, batch by batch
contract_check  --check
conversion      -o and --to
"""
