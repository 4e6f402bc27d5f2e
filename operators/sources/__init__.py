"""Reading the files that a table names."""
