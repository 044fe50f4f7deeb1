"""What a sweep would read from an image folder, in figures, words and a picture."""
