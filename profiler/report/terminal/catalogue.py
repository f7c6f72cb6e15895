"""What the known cards and models look like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from profiler.report.base.text import UNKNOWN, literal, plain_table, size, titled
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Group

    from profiler.hardware.catalogue import Gpu
    from profiler.jobs.presets import Preset


def gpus_table(gpus: Iterable[Gpu]) -> Group:
    """One row a card; the context's figure is a published reading of that very card, or assumed."""
    table = plain_table(
        {
            "id": "left",
            "name": "left",
            "memory": "right",
            "compute": "right",
            "SMs": "right",
            "CUDA context": "right",
            "context is": "left",
        }
    )
    for gpu in gpus:
        table.add_row(
            literal(gpu.id),
            literal(gpu.name),
            size(gpu.total_bytes),
            Text(".".join(str(part) for part in gpu.compute_capability)),
            Text(str(gpu.num_sms)),
            size(gpu.context_bytes),
            Text("published" if gpu.context_is_measured else "assumed"),
        )
    return titled("Cards of the catalogue: each runs as a virtual GPU", table)


def gpu_table(gpu: Gpu) -> Group:
    """One row a figure of one card, with its source, or the reason why it is not known."""
    table = plain_table({"figure": "left", "value": "right", "source": "left"})
    for figure in gpu.figures:
        origin = figure.source or f"not known: {figure.reason}"
        table.add_row(literal(figure.name), _figure_value(figure.name, figure.value), literal(origin))
    return titled(f"{gpu.id}: {gpu.name}", table)


def models_table(presets: Iterable[Preset]) -> Group:
    """One row a model preset, with its published number of parameters."""
    table = plain_table(
        {"id": "left", "on the Hub": "left", "parameters": "right", "licence of the weights": "left"}
    )
    for preset in presets:
        table.add_row(
            literal(preset.id),
            literal(preset.hub_id),
            Text(f"{preset.num_parameters:,}"),
            literal(preset.license),
        )
    return titled("Model presets: any Hub id or local directory works as well", table)


def _figure_value(name: str, value: int | str | None) -> Text:
    if value is None:
        return Text(UNKNOWN)
    if isinstance(value, int) and name.endswith("_bytes"):
        return Text(f"{format_bytes(value)} ({value:,})")
    return literal(str(value))
