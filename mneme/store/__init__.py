"""One DuckDB file a run: its schema, and the way to read and write it."""
