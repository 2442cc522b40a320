"""Measurements of blur, framing, labelling, the camera, recovery, the page and speed, run as `python -m benchmarks.NAME`."""
