"""A run as files, from its log alone: tables (parquet and DuckDB), training sets, cards.

`columns` says what the tables are, `rows` and `history` make their rows and are pure; the others write. The same log
gives the same bytes, in whatever process, except for DuckDB's own file: it begins with an id drawn at random.
"""
