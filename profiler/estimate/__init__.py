"""What a formula and its correction factors say of jobs, and whether they fit a card."""
