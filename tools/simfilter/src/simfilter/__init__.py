"""simfilter: drop pairs whose query and positive do not fit together."""
