"""Whether confidence equals accuracy: calibration errors, temperature scaling, reliability."""
