# mypy: ignore-errors
"""Accelerate with fp16 autocast and its `GradScaler`, `DataLoader` workers and pinned memory."""

import torch
from accelerate import Accelerator
from small import Rows, a_model


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    accelerator = Accelerator(mixed_precision="fp16", gradient_accumulation_steps=2)
    model = a_model(dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    loader = torch.utils.data.DataLoader(
        Rows(), batch_size=2, num_workers=2, pin_memory=True, collate_fn=collate
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        assert batch["attention_mask"].all()
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    print("skipped:", optimizer.step_was_skipped)


if __name__ == "__main__":
    main()
