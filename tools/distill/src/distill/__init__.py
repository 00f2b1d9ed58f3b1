"""distill: a small fast text-embedding model from any teacher."""
