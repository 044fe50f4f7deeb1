"""Common corruptions of images, as functions of a batch; what they are and how strong: `levels`.

Nothing here imports torch: settings are checked before any worker starts.
"""
