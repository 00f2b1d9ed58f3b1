"""A parser for each format of documents, in one registry. A new format is a module here."""
