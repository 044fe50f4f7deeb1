"""What a method may ask of a network: its layers, last maps, attention and gradients."""
