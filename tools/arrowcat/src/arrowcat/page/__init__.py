"""--html: charts, and the page that the Jinja template in `templates/` makes of them."""
