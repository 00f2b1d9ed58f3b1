"""Tables of text cells from every supported format."""
