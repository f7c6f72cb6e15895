from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.records.store import RecordStore
from profiler.report.base.study_view import view_study
from profiler.report.page.shell import embed_json
from profiler.report.page.study import study_page
from profiler.text import shown
from tests.builders import a_job, a_record, a_report
from tests.studies import a_study

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def page(tmp_path: Path) -> str:
    return study_page(view_study(a_study(tmp_path / "my-study"), factors_path=None, gpu=None))


def data_in(page: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_page_allows_nothing_but_its_own_script_and_style(page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]


def test_the_page_names_no_other_place(page: str) -> None:
    without_data = page.replace(data_in(page), "")
    assert set(re.findall(r"https?://[^\s\"'`]+", without_data)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"\b(?:fetch|XMLHttpRequest|WebSocket|importScripts|sendBeacon)\b", without_data)
    assert not re.findall(
        r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|eval|document\.write)\b", without_data
    )


def test_the_same_study_gives_the_same_page(tmp_path: Path) -> None:
    store = a_study(tmp_path / "my-study")
    pages = {study_page(view_study(store, factors_path=None, gpu=None)) for _ in range(2)}
    assert len(pages) == 1


def test_the_page_says_virtual_before_any_figure(page: str) -> None:
    header = page[: page.index("<main>")]
    assert '<span class="badge">virtual (rtx-4090)</span>' in header
    assert "Nothing in them was measured on hardware." in header
    assert "24 records: 1 OOM, 1 OOM (inferred), 22 ok." in header


def test_text_from_a_study_is_escaped(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>&\u2028"
    store = RecordStore(tmp_path / "<img src=x onerror=alert(1)>")
    store.put(a_record(spec=a_job(model=f"some/{hostile}")))
    page = study_page(view_study(store, factors_path=None, gpu=None))
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert f"some/{shown(hostile)}" in json.loads(data_in(page))["texts"]


def test_the_notes_of_a_job_are_on_the_page(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "study")
    for length, note in ((512, "never fed: a tower"), (1024, "never fed: a tower"), (2048, "logits")):
        store.put(a_record(spec=a_job(seq_len=length), report=a_report(notes=(note,))))
    data = json.loads(data_in(study_page(view_study(store, factors_path=None, gpu=None))))
    column = data["columns"].index("notes")
    told = {tuple(data["texts"][number] for number in row[column]) for row in data["records"]}
    assert told == {("never fed: a tower",), ("logits",)}
    assert data["texts"].count("never fed: a tower") == 1


@given(st.text())
def test_no_text_ends_the_element_it_is_in(text: str) -> None:
    embedded = embed_json([text])
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == [text]
