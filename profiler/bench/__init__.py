"""What commands cost: time from a cold start and host memory, as ratios of commands that take turns."""
