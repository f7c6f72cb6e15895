"""Running jobs: one fresh process each, whatever becomes of it turned into a record."""
