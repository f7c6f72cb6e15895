"""How much GPU memory a fine-tuning job really takes, on a real GPU or a virtual one."""

__version__ = "0.1.0"
