"""Mixing in a training loop of your own: collate functions, transforms, hooks at a layer."""
