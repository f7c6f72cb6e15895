"""Published measurements of real cards, and how ours compare with them."""
