"""How formulas are corrected: factors fitted to records, and tested on records they never saw."""
