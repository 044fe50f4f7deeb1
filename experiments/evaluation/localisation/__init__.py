"""Whether a network looks at the object: class activation maps against boxes."""
