"""Errors, checks, tables, files, records, seeds, progress: what every other layer stands on."""
