from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.report.page.explain import explanation_page
from profiler.report.terminal.explain import show_explanation
from tests.builders import a_job, a_real_device, a_record, a_report
from tests.unit.explain.traces import KIB, TraceMaker, a_mark, an_effect, an_explained_run

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from profiler.explain.effects import Effect
    from profiler.explain.run import ExplainedRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OOM = Outcome(status=OutcomeStatus.OOM, phase=PhaseName.FORWARD, step=0, requested_bytes=7 * KIB)
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
LONG = "a" * 300


def terminal(run: ExplainedRun, *effects: Effect, has_effects: bool = True) -> str:
    output = io.StringIO()
    assert run.explanation is not None
    console = Console(file=output, width=160, highlight=False, markup=False, emoji=False)
    show_explanation(console, run.record, run.explanation, effects=effects if has_effects else None)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def a_failed_run() -> ExplainedRun:
    made = TraceMaker()
    made.own(made.alloc(4 * KIB), "weights", "lm_head.weight")
    made.end(PhaseName.LOAD)
    made.alloc(KIB, a_mark())
    made.fail(7 * KIB, a_mark(module="model.layers.3.mlp"))
    made.end(PhaseName.FORWARD, 0)
    return an_explained_run(made.trace(), a_record(outcome=OOM))


def data_of(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data = json.loads(match[1])
    assert isinstance(data, dict)
    return data


def test_what_the_terminal_says_of_a_peak(snapshot: SnapshotAssertion) -> None:
    effects = (an_effect(), an_effect(flags="--seq-len 1024", saved_bytes=0, cost="longer texts are cut"))
    assert terminal(an_explained_run(), *effects) == snapshot


def test_what_the_terminal_says_of_a_failure(snapshot: SnapshotAssertion) -> None:
    effects = (an_effect(), an_effect(flags="--seq-len 1024", status=OutcomeStatus.OOM))
    assert terminal(a_failed_run(), *effects) == snapshot


def test_no_change_that_helps_is_said_and_none_that_was_tried_is_not() -> None:
    assert "No change that was tried lowers the peak" in terminal(an_explained_run())
    assert "change" not in terminal(an_explained_run(), has_effects=False)


def test_virtual_figures_are_never_called_measured() -> None:
    page = explanation_page(an_explained_run(), (an_effect(),))
    for text in (terminal(an_explained_run(), an_effect()), page):
        assert "measured" not in text.replace("nothing here was measured on hardware", "")
        assert "virtual card" in text


def test_a_run_on_a_real_card_says_so() -> None:
    record = a_record(report=a_report(device=a_real_device()))
    run = an_explained_run(record=record)
    assert "Peak (real card): " in terminal(run)
    page = explanation_page(run, None)
    assert "real card" in page
    assert "virtual" not in page.lower()


def test_nothing_in_a_name_reaches_the_terminal_as_a_command() -> None:
    made = TraceMaker()
    made.own(made.alloc(KIB), "weights", "a\x1b[31m.weight")
    made.end(PhaseName.LOAD)
    assert "\x1b" not in terminal(an_explained_run(made.trace()))


def test_the_page_holds_the_tree_and_the_chart_in_bytes() -> None:
    run = an_explained_run()
    page = explanation_page(run, (an_effect(),))
    assert "9,728 B" in page
    assert "backward pass, layers.*" in page
    assert "--loop trainer" in page
    data = data_of(page)
    assert data["moment_bytes"] == 9728
    whole, *_ = data["windows"]
    at_the_peak = next(row for row in whole["instants"] if row[0] == data["moment"])
    assert sum(at_the_peak[5:]) == 9728
    assert len(at_the_peak) == 5 + len(data["parts"])
    assert [span["label"] for span in data["spans"]] == ["load", "forward of step 0", "backward of step 0"]


def test_the_page_needs_no_network_and_the_same_run_gives_the_same_page() -> None:
    page = explanation_page(an_explained_run(), None)
    assert page == explanation_page(an_explained_run(), None)
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)


def test_a_page_of_a_long_run_with_long_names_stays_small() -> None:
    made = TraceMaker()
    for count in range(500):
        made.own(made.alloc(KIB), "weights", f"{LONG}.{count}x.weight")
    made.end(PhaseName.LOAD)
    for step in range(40):
        numbers = [made.alloc(512, a_mark(module=f"{LONG}.{count % 7}x")) for count in range(1000)]
        for number in numbers:
            made.free(number)
        made.end(PhaseName.FORWARD, step)
    assert len(explanation_page(an_explained_run(made.trace()), None)) < 3 << 20


def test_the_page_names_no_caller_where_there_is_none() -> None:
    page = explanation_page(an_explained_run(), None)
    assert "autograd engine, no Python line</td>" in page
    assert "<small>from </small>" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_hostile_name_does_nothing_in_a_browser(tmp_path: Path) -> None:
    made = TraceMaker()
    made.own(made.alloc(KIB), "weights", HOSTILE)
    made.alloc(KIB, a_mark(module=HOSTILE))
    made.end(PhaseName.FORWARD, 0)
    run = an_explained_run(made.trace(), a_record(spec=a_job(model=f"x/{HOSTILE}")))
    page = tmp_path / "page.html"
    page.write_text(explanation_page(run, (an_effect(cost=HOSTILE),)), encoding="utf-8")
    shown = in_a_browser(page, tmp_path)
    assert "<title>owned" not in shown
    assert shown.count("<img") == 0
    assert "<polygon" in shown  # the chart is drawn all the same


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_chart_tells_of_the_peak(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(explanation_page(an_explained_run(), None), encoding="utf-8")
    shown = in_a_browser(page, tmp_path)
    told = re.search(r'<div id="told".*?</div>', shown, re.DOTALL)
    assert told is not None
    assert "9.5 KiB allocated" in told[0]
    assert "512 B allocated: temporaries, backward pass, layers.*" in told[0]
    for name in ("the whole run", "step 0", "150 events before and after"):
        assert f">{name}</button>" in shown


def in_a_browser(page: Path, directory: Path) -> str:
    """The page as it stands once its scripts have run."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={directory / 'browser'}"]
    done = subprocess.run(
        [CHROMIUM, *flags, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout
