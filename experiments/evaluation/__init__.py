"""What is measured of a trained network; one file per family of measurements."""
