"""Scenes composed of the items of Fashion-MNIST, with exact masks and boxes."""
