"""What run, exec, verify and sweep share about processes: messages, environments, locks, signals."""
