"""Formulas for any model, derived from a few virtual runs."""
