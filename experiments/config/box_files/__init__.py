"""Boxes around objects in the user's own images: CSV, COCO and YOLO files, read without torch."""
