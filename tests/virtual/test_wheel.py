"""The wheel and the sdist, and the commands in an environment that holds the wheel and no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from profiler.virtual.build import LIBRARY_NAME
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUN = ("run", "llama-3.2-1b", "--method", "qlora", "--gpu", "rtx-4090", "--json")
ESTIMATE = ("estimate", "llama-3.1-8b", "--method", "qlora", "--gpu", "rtx-4090", "--json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """An environment that holds the wheel, and a directory far from any checkout."""

    prefix: Path
    directory: Path

    def peakvram(self, *arguments: str) -> str:
        """What the installed command prints."""
        return self.call("peakvram", *arguments)

    def call(self, program: str, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "HF_HUB_OFFLINE": "1"}
        return output_of(
            self.prefix / "bin" / program, *arguments, cwd=self.directory, environment=environment
        )


def output_of(*command: Path | str, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory where `scripts/wheel` has left an sdist and a wheel."""
    directory = tmp_path_factory.mktemp("dist")
    output_of(ROOT / "scripts" / "wheel", str(directory), cwd=directory)
    return directory


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The wheel installed by itself; the libraries are those of this process, the checkout is not seen."""
    prefix, directory = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("elsewhere")
    venv.create(prefix, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), "--isolated", "install")
    output_of(*pip, "--quiet", "--no-index", "--no-deps", str(the_wheel(built)), cwd=directory)
    (site_packages,) = prefix.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return Bare(prefix=prefix, directory=directory)


def the_wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def tracked(*folders: str) -> set[str]:
    """What is in the repository, or would be with the next commit."""
    listing = ("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders)
    return {name for name in output_of(*listing, cwd=ROOT).splitlines() if (ROOT / name).exists()}


def test_the_wheel_holds_the_package_its_data_and_its_library_and_nothing_else(built: Path) -> None:
    names = {name for name in names_in(the_wheel(built)) if ".dist-info/" not in name}
    configs = {f"profiler/{name}" for name in tracked("configs")}
    assert {f"profiler/virtual/lib/{LIBRARY_NAME}", "profiler/py.typed"} <= names
    assert names - {f"profiler/virtual/lib/{LIBRARY_NAME}"} == tracked("profiler") | configs


def test_the_wheel_says_its_licence_and_its_platform(built: Path) -> None:
    with zipfile.ZipFile(the_wheel(built)) as wheel:
        (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
        metadata = wheel.read(licence.replace("licenses/LICENSE", "METADATA")).decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "-py3-none-manylinux_2_28_" in the_wheel(built).name


def test_nothing_built_says_where_it_was_built(built: Path) -> None:
    with zipfile.ZipFile(the_wheel(built)) as wheel:
        holding = [name for name in wheel.namelist() if str(ROOT).encode() in wheel.read(name)]
        library = wheel.read(f"profiler/virtual/lib/{LIBRARY_NAME}")
    assert holding == []
    assert b"site-packages" not in library


def test_the_sdist_holds_what_a_wheel_is_built_from_and_no_studies(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("profiler", "configs", "docs", "hatch_build.py", "LICENSE") <= names
    assert not {name.partition("/")[0] for name in names} & {"results", "tests", "dist"}


def test_a_wheel_of_the_checkout_is_the_wheel_of_the_sdist(built: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    output_of(*pip, "--wheel-dir", str(tmp_path), str(ROOT), cwd=tmp_path)
    assert names_in(the_wheel(tmp_path)) == names_in(the_wheel(built))
    assert the_wheel(tmp_path).read_bytes() == the_wheel(built).read_bytes()


def test_the_installed_package_is_the_wheels_own(bare: Bare) -> None:
    code = "import profiler, sys; print(profiler.__file__, *sys.path, sep='\\n')"
    package, *paths = bare.call("python", "-c", code).splitlines()
    assert package.startswith(str(bare.prefix))
    assert str(ROOT) not in paths


def test_a_job_runs_from_the_wheel(bare: Bare) -> None:
    record = json.loads(bare.peakvram(*RUN))
    assert record["outcome"]["status"] == "ok"
    assert record["device"]["kind"] == "virtual"
    assert {phase["name"] for phase in record["phases"]} >= {"context", "load", "prepare", "adapt", "step"}
    assert len(list((bare.directory / "results").rglob("*.json"))) == 1


def test_a_sweep_and_its_page_are_made_from_the_wheel(bare: Bare) -> None:
    bare.peakvram("sweep", "smoke", "--out", "smoke")
    bare.peakvram("report", "smoke")
    assert "</html>" in (bare.directory / "smoke" / "report.html").read_text()


def test_an_estimate_from_the_wheel_is_the_checkouts(bare: Bare) -> None:
    here = output_of(sys.executable, "-m", "profiler", *ESTIMATE, cwd=ROOT)
    assert bare.peakvram(*ESTIMATE) == here


@pytest.mark.parametrize(("command", "folder"), [("gpus", "gpus/*.yaml"), ("models", "models/*.json")])
def test_the_catalogues_come_with_the_wheel(bare: Bare, command: str, folder: str) -> None:
    assert len(json.loads(bare.peakvram(command, "--json"))) == len(list((ROOT / "configs").glob(folder)))
