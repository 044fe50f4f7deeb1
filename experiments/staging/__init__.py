"""Decide when in a training what is mixed: moments, spans, phases, the method of a step.

Nothing here imports torch.
"""
