"""The editing methods of `edit`: one module each, found by its name."""
