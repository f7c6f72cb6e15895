"""A package, so that a `tests` which some distribution installs is not taken for this one."""
