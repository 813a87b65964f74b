"""Tests of the bundle, the formats and their parity."""
