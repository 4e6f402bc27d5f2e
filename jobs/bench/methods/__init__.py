"""Success of methods, finders and recipes on drawn edits whose true results are known."""
