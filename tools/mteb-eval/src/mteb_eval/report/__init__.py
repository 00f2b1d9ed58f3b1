"""The comparison as text and as one HTML page."""
