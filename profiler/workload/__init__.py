"""The training job itself: the same library calls that a Hugging Face user makes, in the same order."""
