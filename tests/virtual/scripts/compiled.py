# mypy: ignore-errors
"""`torch.compile` of a small model."""

import torch
from torch._dynamo.utils import counters

model = torch.compile(
    torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 128)).cuda()
)
optimizer = torch.optim.SGD(model.parameters())
for _ in range(2):
    model(torch.randn(64, 256, device="cuda")).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
print("compiled frames:", counters["stats"]["unique_graphs"])
