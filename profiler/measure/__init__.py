"""What is read while a job runs: the allocator's counters, the card's own figure, and whose the bytes are."""
