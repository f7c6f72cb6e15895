"""The page of a study in a real browser."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate, estimate_job
from profiler.estimate.factors import default_factors
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.sweep import Sweep
from profiler.records.store import RecordStore
from profiler.records.study import SweepNote, note_sweep
from profiler.report.base.study_view import view_study
from profiler.report.page.browser_formula import browser_formula
from profiler.report.page.explain import explanation_page
from profiler.report.page.study import study_page
from tests.builders import ROOT, a_device, a_job, a_record, a_report
from tests.studies import RAN_OUT, a_study, study_records
from tests.unit.explain.traces import an_effect, an_explained_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import Browser

NUM_POINTS = 200
RESULTS = ROOT / "results"
HOSTILE = '</script><script>window.hit = 1</script><img src=x onerror="window.hit = 1"><b>\'&amp;'


def written(store: RecordStore, directory: Path, *, gpu: str | None = None) -> Path:
    path = directory / "report.html"
    path.write_text(study_page(view_study(store, factors_path=None, gpu=gpu)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    return written(a_study(directory / "my-study"), directory)


def test_the_calculator_agrees_with_an_estimate_at_200_points(chromium: Browser, tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [
        {"gradient_checkpointing": False},
        {"attention": "eager", "attention_mask": "padded"},
        {"precision": "bf16-amp", "method": "lora"},
        {"optimizer": "adamw_bnb_8bit", "method": "full"},
        {"method": {"kind": "lora", "rank": 64, "targets": "q_proj,v_proj"}},
        {"model": "mistral-7b-v0.1", "method": "int8-lora"},  # something else holds from its window on
        {"model": "gpt2", "method": "lora", "seq_len": 1024},  # which has no positions beyond
    ]
    store = a_study(tmp_path / "my-study")
    for changes in settings:
        store.put(a_record(spec=a_job(**changes)))
    jobs = [stored.record.spec for stored in store.scan().records]
    places = browser_formula(jobs, default_factors()).places
    draw, points = random.Random(6), []
    for _ in range(NUM_POINTS):
        kind, place = draw.choice(list(places.items()))
        shape = (draw.randint(1, 32), draw.choice([draw.randint(64, 8192), 4095, 4096, 131_072]))
        points.append((kind, place, draw.choice(list(load_catalogue())), *shape))
    chromium.open(written(store, tmp_path))
    said = chromium.run(
        """
        const { cards, estimate } = window.peakvram;
        return arguments[0].map(([place, card, batch, length]) =>
          estimate(place, cards.find((one) => one.id === card), batch, length));
        """,
        [point[1:] for point in points],
    )
    assert len(said) == NUM_POINTS
    for (kind, _, gpu, batch, length), answer in zip(points, said, strict=True):
        job = kind.model_copy(update={"gpu": gpu, "batch_size": batch, "seq_len": length})
        if kind.model == "gpt2" and length > 1024:
            assert answer is None
            continue
        expected = estimate_job(job, formula=PEAKVRAM, factors=default_factors(), card=card_of(job))
        assert isinstance(expected, Estimate)
        for name, figure in (("allocated", "allocated"), ("reserved", "reserved"), ("device", "device_used")):
            band = getattr(expected.corrected, figure)
            bytes_said = [answer[name][end] for end in ("value", "low", "high")]
            assert bytes_said == pytest.approx([band.value_bytes, band.low_bytes, band.high_bytes], rel=1e-3)
        for end in ("low", "value", "high"):
            assert answer["allocated"][end] <= answer["reserved"][end] <= answer["device"][end]
        is_close = abs(expected.verdict.room_bytes) < expected.card.total_bytes * 1e-3
        assert answer["fits"] == expected.verdict.fits or is_close, (job, answer)
        assert answer["reason"] == expected.verdict.reason or is_close


def test_the_page_asks_nothing_of_the_network(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.run("return performance.getEntriesByType('resource').map((one) => one.name)") == []


def test_a_script_that_is_not_its_own_is_refused(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.run(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 1'}))"
    )
    assert chromium.run("return window.hit") is None
    assert "Content Security Policy" in chromium.driver.get_log("browser")[0]["message"]


def test_a_hostile_name_does_nothing_and_is_shown_as_it_is(chromium: Browser, tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "<img src=x onerror=alert(1)>")
    device = a_device(name=HOSTILE)
    for length in (512, 1024):
        job = a_job(model=f"some/{HOSTILE}", seq_len=length)
        store.put(a_record(spec=job, report=a_report(device=device)))
    failed = RAN_OUT.model_copy(update={"message": HOSTILE})
    store.put(a_record(spec=a_job(model="smollm2-135m"), outcome=failed, report=a_report(device=device)))
    note = SweepNote(command=HOSTILE, sweep=Sweep(name="x", description=HOSTILE))
    note_sweep(store.directory, note)
    chromium.open(written(store, tmp_path))
    assert chromium.run("return window.hit") is None
    assert chromium.run("return document.querySelectorAll('img, b').length") == 0
    assert f"some/{HOSTILE}" in chromium.texts("#records-table th")
    assert chromium.texts("h1") == ["<img src=x onerror=alert(1)>"]
    assert f"{HOSTILE}\n" in chromium.texts("header pre")
    assert chromium.run("return document.querySelector('#records-table tbody tr[title]').title") == HOSTILE


def test_a_jobs_notes_are_shown_where_it_is_looked_at_and_found_by(chromium: Browser, tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "study")
    for length in (512, 1024):
        report = a_report(notes=(f"logits of {length} tokens", HOSTILE))
        store.put(a_record(spec=a_job(seq_len=length), report=report))
    chromium.open(written(store, tmp_path))
    assert chromium.texts("#closer-notes li") == ["note: logits of 1024 tokens", f"note: {HOSTILE}"]
    assert chromium.run("return window.hit") is None
    titles = "return [...document.querySelectorAll('#records-table tbody tr')].map((row) => row.title)"
    assert f"logits of 512 tokens\n{HOSTILE}" in chromium.run(titles)


def test_headings_sort_by_keyboard_and_say_so(chromium: Browser, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    chromium.open(page)
    chromium.run("document.querySelector('[data-sort=seq_len]').focus()")
    lengths = "#records-table tbody td:nth-child(3)"
    for state, order in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
        chromium.press(Keys.ENTER)
        assert chromium.run("return document.activeElement.closest('th').ariaSort") == state
        values = [int(text) for text in chromium.texts(lengths)]
        assert values == order(values)
        assert len(set(values)) > 1


def test_every_control_can_be_reached_by_keyboard(chromium: Browser, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    chromium.open(page)
    reached = set()
    for _ in range(80):
        chromium.press(Keys.TAB)
        reached.add(chromium.run("return document.activeElement.closest('section, nav, header')?.id ?? ''"))
    assert {"fits", "calculator", "closer", "records"} <= reached


def test_everything_has_a_name_for_who_does_not_see_it(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    nameless = """
        const nameOf = (one) => one.closest("label")?.firstChild.textContent || one.getAttribute("aria-label")
          || one.textContent.trim();
        return [...document.querySelectorAll("select, input, svg, .scroll, button")]
          .filter((one) => !nameOf(one)).map((one) => one.outerHTML.slice(0, 100))
    """
    assert chromium.run(nameless) == []
    without_heads = "return document.querySelectorAll('table:not(:has(th[scope]))').length"
    assert chromium.run(without_heads) == 0


def test_records_are_filtered(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.texts("#records-provenance")[0].startswith("24 of 24 records")
    chromium.choose("records", "Outcome", "OOM (inferred)")
    assert chromium.texts("#records-provenance")[0].startswith("1 of 24 records")
    chromium.choose("records", "Outcome", "")
    chromium.choose("records", "Contains", "qlora")
    assert set(chromium.texts("#records-table tbody td:nth-child(2)")) == {"qlora r16"}


def test_the_matrix_answers_from_records_and_for_any_other_card_by_formula(
    chromium: Browser, page: Path
) -> None:
    chromium.open(page)
    cells = "#fits-table tbody tr:nth-child(1) td"  # llama-3.1-8b full
    assert chromium.texts("#fits-provenance .badge") == ["virtual (rtx-4090)"]
    assert chromium.texts(cells) == ["\u2713 10.4", "\u2713 10.4", "\u2717 OOM", "\u2717 OOM*"]
    chromium.choose("fits", "Card", "h200")
    assert chromium.texts("#fits-provenance .badge") == ["estimated for h200"]
    assert [text[0] for text in chromium.texts(cells)] == ["\u2713"] * 4
    chromium.choose("fits", "Card", "rtx-3060-12gb")
    assert [text[0] for text in chromium.texts(cells)] == ["\u2717"] * 4


def test_the_card_that_was_asked_for_is_the_first_one_shown(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(a_study(tmp_path / "my-study"), tmp_path, gpu="l4"))
    assert chromium.texts("#fits-provenance .badge") == ["estimated for l4"]


def test_the_calculator_follows_its_fields(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    answers = []
    for length in ("1024", "8192"):
        chromium.choose("calculator", "Length, tokens", length)
        answers.append(chromium.texts("#calculator-answer strong"))
    assert answers[0] != answers[1]
    chromium.choose("calculator", "Batch size", "1")
    chromium.choose("calculator", "Model", "smollm2-135m")
    assert chromium.texts("#calculator-answer strong")[0] == "\u2713 fits"
    assert chromium.run("return document.activeElement.dataset.name") == "model"


def test_looking_closer_follows_its_fields(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.choose("closer", "Model", "smollm2-135m")
    chromium.choose("closer", "Method", "lora r16")
    assert "smollm2-135m" in chromium.texts("#phases-provenance")[0]
    assert "lora r16" in chromium.texts("#phases-provenance")[0]
    for chart in ("components", "phases", "growth-length", "growth-batch", "formulas-chart", "points"):
        assert chromium.run(f"return document.querySelectorAll('#{chart} svg *').length") > 10, chart


def test_every_group_of_figures_says_what_it_is(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    for place in ("fits", "calculator", "components", "phases", "growth", "records", "formulas", "points"):
        badges = chromium.texts(f"#{place}-provenance .badge")
        assert badges, place
        assert all(text.startswith(("virtual", "measured on", "estimated")) for text in badges)


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_sideways(chromium: Browser, page: Path, width: int) -> None:
    chromium.open(page, width=width)
    assert chromium.run("return document.documentElement.scrollWidth") <= width


def test_dark_and_light_follow_the_system_and_the_button(chromium: Browser, page: Path) -> None:
    grounds = []
    for is_dark in (False, True):
        chromium.open(page, is_dark=is_dark)
        grounds.append(chromium.run("return getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == "rgb(255, 255, 255)"
    assert grounds[0] != grounds[1]
    chromium.run("document.getElementById('theme').click()")
    assert chromium.run("return getComputedStyle(document.body).backgroundColor") == grounds[0]


@pytest.mark.parametrize("status", ["oom", "ok"])
def test_a_study_of_one_job_is_shown_too(chromium: Browser, tmp_path: Path, status: str) -> None:
    store = RecordStore(tmp_path / "one")
    store.put(next(record for record in study_records() if record.outcome.status == status))
    chromium.open(written(store, tmp_path))
    assert chromium.texts("#records-provenance")[0].startswith("1 of 1 records")


@pytest.mark.slow
@pytest.mark.parametrize("study", ["rtx-4090", "a100-80gb"])
def test_a_large_study_stays_small_and_quick(chromium: Browser, tmp_path: Path, study: str) -> None:
    if not (RESULTS / study).is_dir():
        pytest.skip(f"results/{study} is not here")
    path = written(RecordStore(RESULTS / study), tmp_path)
    assert path.stat().st_size < 3 << 20
    chromium.open(path)
    drawn_ms = chromium.run("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert drawn_ms < 5000  # a third of a second on two idle cores


def test_the_page_of_an_explained_run_draws_itself_and_follows_the_arrow_keys(
    chromium: Browser, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    path = tmp_path / "explained.html"
    path.write_text(explanation_page(an_explained_run(), (an_effect(),)), encoding="utf-8")
    chromium.open(path, width=390)
    assert chromium.run("return document.documentElement.scrollWidth") <= 390
    chromium.run("document.getElementById('chart').focus()")
    chromium.press(Keys.HOME)
    first = chromium.texts("#told")
    chromium.press(Keys.END)
    assert chromium.texts("#told") != first
    assert chromium.run("return [...document.querySelectorAll('#windows [aria-pressed=true]')].length") == 1
