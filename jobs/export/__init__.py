"""Exports of finished runs: data sets that trainers load as they are, one module a format."""
