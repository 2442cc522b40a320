"""Numbers from predictions: metrics, calibration, results files."""
