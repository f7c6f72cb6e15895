from __future__ import annotations

import io

from rich.console import Console, RenderableType

from profiler.hardware.catalogue import find_gpu, load_catalogue
from profiler.jobs.presets import list_presets
from profiler.report.terminal.catalogue import gpu_table, gpus_table, model_blocks, models_table


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


def test_a_preset_is_shown_with_its_shapes_and_where_they_were_read() -> None:
    preset = next(preset for preset in list_presets() if preset.id == "qwen3-0.6b")
    table, lines = model_blocks(preset, {"peakvram": ("full", "lora"), "one": ("full",), "two": ("full",)})
    rows = dict(row.split(maxsplit=1) for row in shown(table)[2:] if row.startswith(("layers", "vocabulary")))
    assert rows == {"layers": "28", "vocabulary": "151,936"}
    assert sum(hub_id in row for row in shown(table) for hub_id in preset.hub_ids) >= len(preset.hub_ids)
    assert [line.plain for line in lines] == [
        f"shapes: {preset.config_source}",
        f"parameters: {preset.count_source}",
        f"note: {preset.note}",
        "estimates: peakvram (full, lora) and 2 formulas of others (`peakvram estimate --all-formulas`)",
    ]


def test_a_preset_that_no_formula_knows_says_what_does_run_it() -> None:
    _, lines = model_blocks(list_presets()[0], {})
    assert lines[-1].plain.endswith(
        "no formula knows its shapes; `peakvram derive` makes one of a job, and `peakvram run` runs it"
    )
