"""Published claims about GPU memory, each checked by jobs or by arithmetic."""
