"""What values look like on a terminal."""
