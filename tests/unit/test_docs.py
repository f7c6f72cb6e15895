from __future__ import annotations

import json
import pkgutil
import re
import shlex
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml

from profiler.cli.app import build_app
from profiler.hardware.catalogue import find_gpu
from profiler.jobs.flags import JOB_FLAGS, read_job
from profiler.jobs.identity import job_key
from profiler.jobs.job import Full, GradientCheckpointing, Inference, Int8Lora, JobSpec, Lora, QLora
from profiler.jobs.load import job_from
from profiler.jobs.models import resolve_model
from profiler.jobs.presets import list_presets
from profiler.records.schema import (
    Components,
    ComponentsAt,
    Device,
    Environment,
    Outcome,
    Parameters,
    Peak,
    PhaseReading,
    Record,
    Steady,
    ValueReads,
)
from tests.builders import ROOT
from tests.unit.test_imports import FLOORS, WITHOUT_TORCH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import BaseModel

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4,}(?P<line>\S.*)$", re.MULTILINE)
_SPAN = re.compile(r"`(?P<text>[^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_SCRIPT = re.compile(r"(?:^|[\s`])\./(?P<path>scripts/\w+)")
_PATH = re.compile(r"(?:profiler|configs|tests|docs)/[\w./-]*\w/?")
_SOME_RUN = "peakvram run llama-3.1-8b"
_HELP = {"--help", "-h", "--version"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fenced(text: str, language: str) -> list[str]:
    return [block["text"] for block in _FENCE.finditer(text) if block["language"] == language]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = (match["text"].lower().replace("`", "") for match in _HEADING.finditer(_FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for match in _LINK.finditer(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        file, _, anchor = match["target"].partition("#")
        if "://" in match["target"]:
            continue
        target = (page.parent / file).resolve() if file else page
        is_there = target.is_relative_to(ROOT) and target.exists()
        if not is_there or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(match["target"])
    return broken


def commands_in(text: str) -> list[str]:
    """Every `peakvram ...` a page shows: a line of code, or a code span, which may be broken in two.

    A span of flags alone is a command to run, but for its model.
    """
    prose = _FENCE.sub("", text)
    lines = [line for block in _FENCE.finditer(text) for line in block["text"].splitlines()]
    lines += [match["line"] for match in _INDENTED.finditer(prose)]
    spans = [" ".join(match["text"].split()) for match in _SPAN.finditer(_INDENTED.sub("", prose))]
    lines += [f"{_SOME_RUN} {span}" if re.match(r"--\S+ ", span) else span for span in spans]
    found = (line.strip().removeprefix("$ ").removeprefix(".venv/bin/") for line in lines)
    return [line for line in found if re.match(r"peakvram( |$)", line)]


def problem_with(command: str) -> str | None:
    """What is wrong with a command, told by the command line's own parser and checks; nothing is run."""
    try:
        arguments = shlex.split(command, comments=True)[1:]
        if len(arguments) < 2 or _HELP & set(arguments):
            group_or_command(arguments)  # a mention of it, or its help
            return None
        name, *rest = arguments
        given: dict[str, Any] = dict(group_or_command([name]).make_context(name, rest).params)
        if name == "run":
            check_run(given)
        elif name == "gpus" and given["gpu"] is not None:
            find_gpu(given["gpu"])
    except Exception as error:  # whatever it is, the page shows a command that does not work
        return f"{command}: {error}"
    return None


@cache
def the_group() -> Any:
    return typer.main.get_command(build_app())


def group_or_command(arguments: list[str]) -> Any:
    group = the_group()
    names = [argument for argument in arguments if not argument.startswith("-")]
    return group.commands[names[0]] if names else group


def check_run(given: dict[str, Any]) -> None:
    data = {} if given["config"] is None else {"model": list_presets()[0].id}
    spec, _ = read_job(given, data=data, settings=given["set_"] or [], environ={})
    if spec.gpu != "auto" and not spec.is_real_gpu_asked:
        find_gpu(spec.gpu)
    if not spec.model.startswith(("./", "/")):
        resolve_model(spec.model, weights=spec.weights, revision=spec.revision)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_the_repository_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    words = " ".join([*(match["text"] for match in _SPAN.finditer(_FENCE.sub("", text))), *commands_of(text)])
    named = {word for word in words.split() if _PATH.fullmatch(word)}
    shipped = "profiler/configs"  # in a wheel only
    assert [name for name in sorted(named - {shipped}) if not (ROOT / name).exists()] == []


def commands_of(text: str) -> list[str]:
    return [match["line"] for match in _INDENTED.finditer(_FENCE.sub("", text))]


def floors_shown() -> list[tuple[set[str], bool]]:
    """The rooms of every row of the table of floors, from the ground, and whether they do without torch."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|[^|]+\| ?(\w*) \|$", text.partition("## What flows")[0], re.MULTILINE)
    return [(set(re.findall(r"`(\w+)`", rooms)), torchless == "yes") for rooms, torchless in reversed(rows)]


def test_the_floors_shown_are_those_that_are_held() -> None:
    assert [rooms for rooms, _ in floors_shown()] == [set(floor) for floor in FLOORS]
    assert {room for rooms, is_held in floors_shown() if is_held for room in rooms} == WITHOUT_TORCH


def test_the_modules_and_values_that_are_shown_are_there() -> None:
    spans = _SPAN.findall(_FENCE.sub("", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    rooms = "|".join(room for floor in FLOORS for room in floor)
    named = [span for span in spans if re.fullmatch(rf"(?:{rooms})(?:\.(?!json|py)\w+)+", span)]
    assert len(named) > 5
    for name in named:
        pkgutil.resolve_name(f"profiler.{name}")


def test_the_citation_names_the_version_and_the_licence_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]


def test_a_broken_link_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing\n[a](page.md#one-thing) [b](#one-thing) [c](#two) [d](gone.md) [e](../up.md)"
    )
    assert broken_links(page) == ["#two", "gone.md", "../up.md"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    commands = commands_in(page.read_text(encoding="utf-8"))
    assert [problem for command in commands if (problem := problem_with(command))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_a_page_names_exists(page: Path) -> None:
    spans = _SPAN.finditer(_FENCE.sub("", page.read_text(encoding="utf-8")))
    named = {match["text"] for match in spans if re.fullmatch(r"--[a-z0-9-]+", match["text"])}
    assert named - known_flags() == set()


def known_flags() -> set[str]:
    group = group_or_command([])
    options = [option for command in (group, *group.commands.values()) for option in command.params]
    return {"--help"} | {flag for option in options for flag in (*option.opts, *option.secondary_opts)}


def test_the_pages_show_commands() -> None:
    found = {name_of(page): len(commands_in(page.read_text(encoding="utf-8"))) for page in PAGES}
    assert found["README.md"] > 5
    assert found["docs/will-it-fit.md"] > 5
    assert found["docs/method.md"] > 3


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("peakvram fly x", "fly"),
        ("peakvram run llama-3.1-8b --no-such-flag", "--no-such-flag"),
        ("peakvram run llama-3.1-8x", "llama-3.1-8x"),
        ("peakvram run llama-3.1-8b --gpu rtx-4080x", "rtx-4080x"),
        ("peakvram run llama-3.1-8b --method lora --quant nf4", "quant"),
        ("peakvram run llama-3.1-8b --optimizer adamw", "adamw"),
        ("peakvram run --config job.yaml --set method.rnk=8", "rnk"),
        ("peakvram gpus rtx-1", "rtx-1"),
    ],
)
def test_a_command_that_would_not_run_is_noticed(command: str, word: str) -> None:
    assert word in (problem_with(command) or "")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_script_a_page_names_is_there_and_can_be_run(page: Path) -> None:
    scripts = {ROOT / match["path"] for match in _SCRIPT.finditer(page.read_text(encoding="utf-8"))}
    assert [script.name for script in sorted(scripts) if not script.stat().st_mode & 0o100] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_job_file_a_page_shows_is_valid(page: Path) -> None:
    for text in fenced(page.read_text(encoding="utf-8"), "yaml"):
        data = yaml.safe_load(text)
        if "model" in data:
            job_from(data, source=name_of(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_program_a_page_shows_compiles(page: Path) -> None:
    for number, text in enumerate(fenced(page.read_text(encoding="utf-8"), "python")):
        compile(text, f"{name_of(page)}[{number}]", "exec")


def the_example() -> Record:
    (text,) = fenced((ROOT / "docs" / "records.md").read_text(encoding="utf-8"), "json")
    return Record.model_validate_json(text)


def test_the_record_shown_has_every_field_and_its_own_key() -> None:
    (text,) = fenced((ROOT / "docs" / "records.md").read_text(encoding="utf-8"), "json")
    record = the_example()
    assert json.loads(text) == json.loads(record.model_dump_json())
    assert record.key == job_key(record.spec)


def test_the_record_shown_adds_up() -> None:
    record = the_example()
    (phase,) = record.phases
    assert record.components == phase.components
    assert phase.components is not None
    assert phase.components.total_bytes == phase.allocated_end_bytes


@pytest.mark.parametrize(
    "part",
    [
        *(Record, Device, Environment, Outcome, Peak, Steady, Components, ComponentsAt, Parameters),
        *(PhaseReading, ValueReads, JobSpec, GradientCheckpointing),
        *(Full, Lora, QLora, Int8Lora, Inference),
    ],
    ids=lambda part: part.__name__,
)
def test_every_field_of_a_record_is_explained(part: type[BaseModel]) -> None:
    text = _FENCE.sub("", (ROOT / "docs" / "records.md").read_text(encoding="utf-8"))
    spans = {match["text"] for match in _SPAN.finditer(text)}
    assert [name for name in part.model_fields if name not in spans] == []


def test_every_flag_of_a_job_is_listed_with_its_key(request: pytest.FixtureRequest) -> None:
    """`--snapshot-update` writes the table anew."""
    page, head = ROOT / "docs" / "records.md", "| key | flag | meaning |\n|---|---|---|\n"
    before, _, after = page.read_text(encoding="utf-8").partition(head)
    stale = re.match(r"(\|.*\n)*", after)
    assert stale is not None
    table = "".join(f"| `{flag.path}` | `{flag.label}` | {flag.help} |\n" for flag in JOB_FLAGS)
    if request.config.option.update_snapshots:
        page.write_text(f"{before}{head}{table}{after[stale.end() :]}", encoding="utf-8")
    else:
        assert stale[0] == table


def test_the_recorded_variables_are_listed() -> None:
    from profiler.process.environment import RECORDED_VARIABLES

    text = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    assert [name for name in RECORDED_VARIABLES if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    "says",
    [
        lambda text: re.search(r"virtual\w* measure(d|ment)|measured (on|with) a virtual", text),
        lambda text: re.search(r"/tmp/|/root/|/home/", text),
    ],
    ids=["virtual figures measured", "paths of a machine"],
)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_says(page: Path, says: Callable[[str], object]) -> None:
    assert not says(page.read_text(encoding="utf-8"))
