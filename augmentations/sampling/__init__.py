"""Random draws that methods share: partners, boxes, saliency, masks."""
