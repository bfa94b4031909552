"""A run as one page of HTML that opens without a network: `bohdi report`.

What is read of the log stands in `collected.py` (bounded, but for a few bytes a node and an event), what the page says
in `contents.py` and `words.py`, both pure; `page.py` makes HTML of it, with the page's own script and style beside it
and plotly.js, which its package ships.
"""
