"""Our own formula, from first principles: every tensor that the libraries are known to make."""
