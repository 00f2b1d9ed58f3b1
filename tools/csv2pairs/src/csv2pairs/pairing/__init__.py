"""From table rows to examples."""
