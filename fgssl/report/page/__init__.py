"""One HTML file that shows a sweep: tables with the provenance of their cells, figures, and the interactive embedding.

`content` is what the page is made from, `fitting` makes thumbnails that fit into a number of megabytes, and `render`
writes the file. Scripts, style and template lie beside them in files of their own.
"""
