"""What the known cards and models look like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.text import UNKNOWN, left, literal, right, size, titled_table
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Group
    from rich.text import Text

    from profiler.hardware.catalogue import Figure, Gpu
    from profiler.jobs.presets import Preset

_OWN_FORMULA = "peakvram"


def gpus_table(gpus: Iterable[Gpu]) -> Group:
    """One row a card; the context's figure is a published reading of that very card, or assumed."""
    columns = left("id", "name") | right("memory", "compute", "SMs", "CUDA context") | left("context is")
    rows = (
        [
            *(gpu.id, gpu.name, size(gpu.total_bytes), ".".join(map(str, gpu.compute_capability))),
            *(str(gpu.num_sms), size(gpu.context_bytes)),
            "published" if gpu.context_is_measured else "assumed",
        ]
        for gpu in gpus
    )
    return titled_table("Cards of the catalogue: each runs as a virtual GPU", columns, rows)


def gpu_table(gpu: Gpu) -> Group:
    """One row a figure of one card, with its source, or the reason why it is not known."""
    rows = (
        [figure.name, _figure_value(figure), figure.source or f"not known: {figure.reason}"]
        for figure in gpu.figures
    )
    return titled_table(f"{gpu.id}: {gpu.name}", left("figure") | right("value") | left("source"), rows)


def models_table(presets: Iterable[Preset]) -> Group:
    """One row a model preset, with its published number of parameters."""
    columns = left("id", "on the Hub") | right("parameters") | left("licence of the weights")
    rows = ([preset.id, preset.hub_id, f"{preset.num_parameters:,}", preset.license] for preset in presets)
    return titled_table("Model presets: any Hub id or local directory works as well", columns, rows)


def model_blocks(preset: Preset, formulas: Mapping[str, tuple[str, ...]]) -> tuple[Group, list[Text]]:
    """One preset: its shapes and names, and in lines where they were read and who estimates it."""
    shape = preset.architecture
    rows = [
        ["parameters", f"{preset.num_parameters:,}"],
        ["family", shape.model_type],
        ["layers", f"{shape.num_layers:,}"],
        ["hidden size", f"{shape.hidden_size:,}"],
        ["attention heads", f"{shape.num_heads:,}"],
        ["key/value heads", f"{shape.num_kv_heads:,}"],
        ["vocabulary", f"{shape.vocab_size:,}"],
        *(["on the Hub", hub_id] for hub_id in preset.hub_ids),
        ["licence of the weights", preset.license],
    ]
    lines = [
        f"shapes: {preset.config_source}",
        f"parameters: {preset.count_source}",
        *([f"note: {preset.note}"] if preset.note else []),
        f"estimates: {_who_estimates(formulas)}",
    ]
    table = titled_table(f"{preset.id}: a model preset", left("fact", "value"), rows)
    return table, [literal(line) for line in lines]


def _who_estimates(formulas: Mapping[str, tuple[str, ...]]) -> str:
    own = formulas.get(_OWN_FORMULA)
    num_others = len(formulas) - (own is not None)
    said = [f"{_OWN_FORMULA} ({', '.join(own)})"] if own else []
    if num_others:
        said.append(f"{num_others} formulas of others (`peakvram estimate --all-formulas`)")
    return (
        " and ".join(said)
        or "no formula knows its shapes; `peakvram derive` makes one of a job, and `peakvram run` runs it"
    )


def _figure_value(figure: Figure) -> str:
    if isinstance(figure.value, int) and figure.name.endswith("_bytes"):
        return f"{format_bytes(figure.value)} ({figure.value:,})"
    return UNKNOWN if figure.value is None else str(figure.value)
