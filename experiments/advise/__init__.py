"""From a folder of images to a decision: what `mixbench try` plans and remembers."""
