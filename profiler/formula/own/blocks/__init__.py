"""The blocks of the families that our formula follows: one family a module."""
