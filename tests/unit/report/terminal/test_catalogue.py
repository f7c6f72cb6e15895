from __future__ import annotations

import io

from rich.console import Console, RenderableType

from profiler.hardware.catalogue import find_gpu, load_catalogue
from profiler.jobs.presets import list_presets
from profiler.report.terminal.catalogue import gpu_table, gpus_table, models_table


def shown(renderable: RenderableType) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=200).print(renderable)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_every_card_has_a_row() -> None:
    rows = shown(gpus_table(load_catalogue().values()))
    assert [row.split()[0] for row in rows[2:]] == list(load_catalogue())


def test_a_row_says_whether_the_contexts_size_is_published() -> None:
    cards = load_catalogue().values()
    rows = shown(gpus_table(cards))[2:]
    assert [row.endswith(" published") for row in rows] == [card.context_is_measured for card in cards]


def test_every_figure_of_a_card_has_its_source_or_the_reason_why_it_is_not_known() -> None:
    gpu = find_gpu("rtx-4090")
    rows = shown(gpu_table(gpu))[2:]
    for figure, row in zip(gpu.figures, rows, strict=True):
        assert row.startswith(figure.name)
        assert row.endswith(figure.source or f"not known: {figure.reason}")


def test_every_preset_has_a_row_with_its_parameters() -> None:
    rows = shown(models_table(list_presets()))[2:]
    for preset, row in zip(list_presets(), rows, strict=True):
        assert row.split()[:3] == [preset.id, preset.hub_id, f"{preset.num_parameters:,}"]
