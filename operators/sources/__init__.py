"""Files that a table names, and the permission to read them."""
