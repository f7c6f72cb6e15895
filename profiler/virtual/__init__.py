"""The virtual CUDA device: the real PyTorch over a stand-in for the CUDA libraries.

`build` compiles the stand-in, `state` describes the pretended machine, `launch` gives the environment of a
process that sees it, and `values` (in the worker) keeps small integer and boolean tensors true.
"""
