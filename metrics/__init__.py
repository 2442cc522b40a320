"""Predictions of a model, their metrics and calibration, and the results JSON."""
