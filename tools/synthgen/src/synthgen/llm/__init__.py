"""Everything between a request and its parsed response."""
