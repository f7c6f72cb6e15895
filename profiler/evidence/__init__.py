"""Published measurements and claims, and how ours compare with them."""
