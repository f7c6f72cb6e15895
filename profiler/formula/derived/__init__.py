"""Formulas derived from runs: the events of a job's allocator, with sizes that follow from its batch."""
