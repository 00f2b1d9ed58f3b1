"""What is shown on a terminal.

console          colours and width
cell_text        values as short texts
row_view, statistics_view, check_view, lineage_view
                 one for each thing to look at
"""
