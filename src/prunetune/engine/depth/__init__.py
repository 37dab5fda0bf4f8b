"""Residual blocks, and what bypassing one takes."""
