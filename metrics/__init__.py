"""Metrics of predictions, calibration and the results JSON."""
