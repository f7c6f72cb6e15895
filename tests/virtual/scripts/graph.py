# mypy: ignore-errors
"""Captures a CUDA graph."""

import torch

x = torch.ones(4, device="cuda")
with torch.cuda.graph(torch.cuda.CUDAGraph()):
    x = x + 1
