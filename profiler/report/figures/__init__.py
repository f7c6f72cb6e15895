"""The figures of a study, drawn to be published."""
