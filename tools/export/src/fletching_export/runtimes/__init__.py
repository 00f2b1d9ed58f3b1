"""The formats of --to: how each writes a traced model and runs what it wrote."""
