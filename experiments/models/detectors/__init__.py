"""What the answers of a detector mean: its loss for mixed boxes, and the boxes it finds."""
