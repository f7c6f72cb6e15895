"""What a job is, how it is written down and what makes two jobs the same."""
