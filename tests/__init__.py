"""Tests, in folders as the source lies."""
