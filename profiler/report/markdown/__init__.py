"""What values look like in Markdown."""
