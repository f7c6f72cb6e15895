"""The GPUs: what is known of each card, and what is in this machine."""
