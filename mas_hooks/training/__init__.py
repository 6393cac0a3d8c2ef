"""Fits of an alignment: the loop, losses, starting frames, checkpoints, and controls that are fits themselves."""
