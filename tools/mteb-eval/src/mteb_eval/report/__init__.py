"""The comparison for readers: text and an HTML page.

Order, lowest first: sections · text_report · charts · html_report, which fills the Jinja
templates of `templates/`.
"""
