"""Measurements of speed, framing, the page and recovery, run as `python -m benchmarks.NAME`."""
