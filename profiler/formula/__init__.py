"""Formulas for GPU memory: one formula a module, one function a term, each with its source."""
