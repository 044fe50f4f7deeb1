"""Learning from images without labels beside the labelled ones: `streams.unlabelled`."""
