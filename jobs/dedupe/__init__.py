"""Near-duplicates among the sources of a data set, found before anything is edited."""
