"""PyTorch's CUDA caching allocator, replayed without torch: events in, the allocator's own figures out."""
