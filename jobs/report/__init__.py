"""Writes the report of a run: one HTML file that fetches nothing.

- `report`        the page, from a summary of the manifest and a second pass over it
- `scan`          passes over the manifest, shared by all that reads it
- `counts`        endings and policy rules; `truth` success; `scores` and `charts` histograms
- `rows`          the sample of rows in the gallery; `thumbnails` their pictures
- `page`          lines and facts in words; `format` numbers and times
- `contact_sheet` a picture of some accepted edits
"""
