"""The report as one HTML page.

`page` puts it together from tables, figures, `run_info` (what was run, on what) and `architectures` (the models);
`elements` are its pieces and `style.css` its style sheet.
"""
