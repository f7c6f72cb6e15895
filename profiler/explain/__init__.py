"""What is in memory at a job's peak: every block with its component, its module and the line that made it."""
