"""mteb-eval: MTEB and your own data, honestly compared."""
