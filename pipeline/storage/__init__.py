"""Objects below one URI: a local disk or any fsspec store."""
