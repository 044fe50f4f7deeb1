"""Load data sets, split them, keep them on the device, crop and flip."""
