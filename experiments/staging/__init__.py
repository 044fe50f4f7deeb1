"""Decide when in a training what is mixed: moments, spans, named schedules, the method of a step.

Nothing here imports torch.
"""
