"""A real card against its virtual twin: the same jobs on both, compared phase by phase and event by event."""
