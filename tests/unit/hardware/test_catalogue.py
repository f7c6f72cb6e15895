from __future__ import annotations

import copy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.hardware.catalogue import Gpu, find_gpu, load_catalogue, read_catalogue
from profiler.hardware.sheet import Generation
from profiler.resources import configs_dir
from profiler.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

PROMISED = {
    *("rtx-3060-12gb", "rtx-3090", "rtx-4070", "rtx-4080", "rtx-4090", "rtx-5090", "a10g", "l4", "l40s"),
    *("a6000", "rtx-6000-ada", "a40", "a100-40gb", "a100-80gb", "h100-80gb", "h200", "b200"),
}

# What a capability fixes, whichever the card: threads and blocks a multiprocessor, shared memory of one and
# of one block (CUDA C++ Programming Guide, technical specifications per compute capability).
LIMITS = {
    (8, 0): (2048, 32, 167936, 166912),
    (8, 6): (1536, 16, 102400, 101376),
    (8, 9): (1536, 24, 102400, 101376),
    (9, 0): (2048, 32, 233472, 232448),
    (10, 0): (2048, 32, 233472, 232448),
    (12, 0): (1536, 24, 102400, 101376),
}

GENERATIONS = {
    (8, 0): Generation.AMPERE,
    (8, 6): Generation.AMPERE,
    (8, 9): Generation.ADA,
    (9, 0): Generation.HOPPER,
    (10, 0): Generation.BLACKWELL,
    (12, 0): Generation.BLACKWELL,
}

EVERY_CARD = pytest.mark.parametrize("gpu", load_catalogue().values(), ids=lambda gpu: gpu.id)


def a_sheet() -> dict[str, Any]:
    """The file of a card that exists, as data to spoil."""
    sheet: dict[str, Any] = yaml.safe_load((configs_dir() / "gpus" / "rtx-4090.yaml").read_text())
    return copy.deepcopy(sheet)


def a_directory(tmp_path: Path, sheet: object, name: str = "my-card") -> Path:
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(sheet, sort_keys=False))
    return tmp_path


def refusal(tmp_path: Path, sheet: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_catalogue(a_directory(tmp_path, sheet))
    return caught.value


def test_every_promised_card_is_there() -> None:
    assert set(load_catalogue()) >= PROMISED


def test_the_catalogue_is_read_once_and_cannot_be_changed() -> None:
    assert load_catalogue() is load_catalogue()
    with pytest.raises(TypeError):
        load_catalogue()["rtx-4090"] = find_gpu("l4")  # type: ignore[index]


def test_the_catalogue_goes_from_small_to_large() -> None:
    totals = [gpu.total_bytes for gpu in load_catalogue().values()]
    assert totals == sorted(totals)


@EVERY_CARD
def test_every_figure_has_a_source_or_a_reason(gpu: Gpu) -> None:
    assert len(gpu.figures) == 17
    for figure in gpu.figures:
        if figure.value is None:
            assert figure.reason
            assert figure.source is None
        else:
            assert figure.source
            assert figure.reason is None


@EVERY_CARD
def test_cuda_reports_a_little_less_than_the_box_says(gpu: Gpu) -> None:
    assert 0.9 * gpu.marketing_bytes < gpu.total_bytes < gpu.marketing_bytes


@EVERY_CARD
def test_nvml_reports_the_part_the_driver_reserves_too(gpu: Gpu) -> None:
    assert gpu.total_bytes + 256 * MIB < gpu.nvml_total_bytes < gpu.total_bytes + 1024 * MIB
    assert gpu.nvml_total_bytes <= gpu.marketing_bytes
    assert gpu.nvml_total_bytes % MIB == 0


@EVERY_CARD
def test_the_limits_are_those_of_the_compute_capability(gpu: Gpu) -> None:
    assert (
        gpu.max_threads_per_sm,
        gpu.max_blocks_per_sm,
        gpu.shared_memory_per_sm_bytes,
        gpu.max_shared_memory_per_block_optin_bytes,
    ) == LIMITS[gpu.compute_capability]
    assert gpu.generation is GENERATIONS[gpu.compute_capability]


@EVERY_CARD
def test_the_chip_is_plausible(gpu: Gpu) -> None:
    assert 28 <= gpu.num_sms <= 170
    assert gpu.l2_cache_bytes is not None
    assert 2 * MIB < gpu.l2_cache_bytes < 128 * MIB
    assert gpu.memory_bus_width_bits is None or gpu.memory_bus_width_bits % 64 == 0
    assert gpu.name.startswith("NVIDIA ")


@EVERY_CARD
def test_the_context_is_a_spread_that_owns_up_to_being_an_assumption(gpu: Gpu) -> None:
    assert 64 * MIB < gpu.context_low_bytes < gpu.context_bytes < gpu.context_high_bytes < 1024 * MIB
    notes = {figure.name: figure.note or "" for figure in gpu.figures}
    assert notes["context.typical_bytes"].startswith("ASSUMPTION") is not gpu.context_is_measured
    measured = next(figure for figure in gpu.figures if figure.name == "context.measured")
    assert measured.value == (gpu.context_bytes if gpu.context_is_measured else None)


@EVERY_CARD
def test_no_source_names_a_place_outside_the_public(gpu: Gpu) -> None:
    told = " ".join(f"{figure.source} {figure.note} {figure.reason}" for figure in gpu.figures)
    assert not any(word in told for word in ("/work", "/tmp", "/home", "/root"))


@EVERY_CARD
def test_the_file_survives_a_round_trip_through_yaml(gpu: Gpu, tmp_path: Path) -> None:
    sheet = yaml.safe_load((configs_dir() / "gpus" / f"{gpu.id}.yaml").read_text())
    assert read_catalogue(a_directory(tmp_path, sheet, gpu.id))[gpu.id] == gpu


def test_totals_agree_with_what_other_logs_print() -> None:
    # Not the sources of these figures: vLLM memory logs of H100s, and an Unsloth banner of an H200.
    assert f"{find_gpu('h100-80gb').total_bytes / 2**30:.2f} GiB" == "79.18 GiB"
    assert f"{find_gpu('h200').total_bytes / 2**30:.3f} GiB" == "139.801 GiB"


def test_unknown_gpu_names_the_nearest_id() -> None:
    with pytest.raises(ConfigError, match=r"unknown GPU 'rtx-4080x'") as caught:
        find_gpu("rtx-4080x")
    assert "did you mean 'rtx-4080'?" in caught.value.hint
    assert "peakvram gpus" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_gpu_in_capitals_is_taken_for_the_one_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        find_gpu("H100-80GB")
    assert "'h100-80gb'" in caught.value.hint


def test_a_gpu_like_no_other_gets_no_guess() -> None:
    with pytest.raises(ConfigError) as caught:
        find_gpu("???")
    assert caught.value.hint == "`peakvram gpus` lists the known ones"


@given(st.text())
def test_any_text_is_a_known_id_or_an_error_that_repeats_it(text: str) -> None:
    if text in load_catalogue():
        assert find_gpu(text).id == text
    else:
        with pytest.raises(ConfigError) as caught:
            find_gpu(text)
        assert repr(text) in caught.value.message


def test_an_unknown_nvml_total_falls_back_to_what_cuda_reports(tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["nvml_total_bytes"] = {"value": None, "reason": "nobody published it"}
    gpu = read_catalogue(a_directory(tmp_path, sheet))["my-card"]
    assert gpu.nvml_total_bytes == gpu.total_bytes
    assert next(f for f in gpu.figures if f.name == "nvml_total_bytes").reason == "nobody published it"


def test_the_file_name_is_the_id(tmp_path: Path) -> None:
    assert read_catalogue(a_directory(tmp_path, a_sheet(), "my-own-card"))["my-own-card"].id == "my-own-card"


@pytest.mark.parametrize("name", [name for name in a_sheet() if name != "context"])
def test_a_figure_without_its_source_is_refused(name: str, tmp_path: Path) -> None:
    sheet = a_sheet()
    del sheet[name]["source"]
    error = refusal(tmp_path, sheet)
    assert error.message == f"{tmp_path / 'my-card.yaml'}: {name}.source: is missing"


@pytest.mark.parametrize("name", list(a_sheet()))
def test_a_missing_figure_is_refused(name: str, tmp_path: Path) -> None:
    sheet = a_sheet()
    del sheet[name]
    assert f"{tmp_path / 'my-card.yaml'}: {name}: is missing" in refusal(tmp_path, sheet).message


def test_an_unknown_total_is_refused(tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["total_bytes"] = {"value": None, "reason": "nobody published it"}
    assert "my-card.yaml: total_bytes." in refusal(tmp_path, sheet).message


def test_a_null_without_a_reason_is_refused(tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["l2_cache_bytes"] = {"value": None}
    assert "my-card.yaml: l2_cache_bytes.reason: is missing" in refusal(tmp_path, sheet).message


@pytest.mark.parametrize("value", [0, -1, 24.0, True, "25250627584"])
def test_a_size_that_is_no_count_of_bytes_is_refused(value: object, tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["total_bytes"]["value"] = value
    assert "my-card.yaml: total_bytes.value: Input should be" in refusal(tmp_path, sheet).message


def test_an_unquoted_capability_is_refused_with_the_remedy(tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["compute_capability"]["value"] = 8.9
    error = refusal(tmp_path, sheet)
    assert "my-card.yaml: compute_capability.value" in error.message
    assert "quotes" in error.hint


def test_a_misspelt_key_is_refused_with_the_right_one(tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["num_sm"] = sheet["num_sms"]
    error = refusal(tmp_path, sheet)
    assert "my-card.yaml: num_sm: unknown key" in error.message
    assert "did you mean 'num_sms'?" in error.hint


@pytest.mark.parametrize("name", ["num_sms", "l2_cache_bytes", "context"])
def test_a_bare_value_is_refused(name: str, tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet[name] = 128
    assert f"my-card.yaml: {name}: must be an object" in refusal(tmp_path, sheet).message


@pytest.mark.parametrize("changes", [{"low_bytes": 2**40}, {"basis": "measured"}, {"high_bytes": 1}])
def test_a_context_at_odds_with_itself_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    sheet = a_sheet()
    sheet["context"] |= changes
    assert "my-card.yaml: context: " in refusal(tmp_path, sheet).message


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\x00", b"a: b: c", b"\t- x"])
def test_a_file_that_is_no_yaml_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml: not valid YAML") as caught:
        read_catalogue(tmp_path)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", ["", "[]", "text"])
def test_a_file_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"empty\.yaml: the whole file: must be an object"):
        read_catalogue(tmp_path)


def test_a_directory_where_a_file_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.yaml: cannot be read"):
        read_catalogue(tmp_path)


def test_a_catalogue_without_cards_is_an_unfit_installation(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnfitError, match="no GPU files"):
        read_catalogue(tmp_path)


def test_the_catalogue_needs_no_torch() -> None:
    code = (
        "import sys; from profiler.hardware.catalogue import load_catalogue; load_catalogue();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pynvml')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=configs_dir().parent)
