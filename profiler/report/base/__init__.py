"""What every medium shows alike: words, verdicts, and which records belong together."""
