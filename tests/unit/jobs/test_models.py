import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.jobs.choices import Weights
from profiler.jobs.models import ModelSource, Preset, find_presets, list_presets, read_config, resolve_model
from profiler.jobs.presets import read_config_file, read_presets
from profiler.resources import configs_dir

TINY = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 4,
    "vocab_size": 16,
}
ENTRY = "{hub_id: org/tiny, num_parameters: 7, license: mit, config_source: a, count_source: b}"
RUNTIME_KEYS = {
    "_name_or_path",
    "auto_map",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "use_cache",
    "cache_implementation",
    "quantization_config",
    "task_specific_params",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
}


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_source(name: str, *, weights: Weights = Weights.RANDOM, revision: str | None = None) -> ModelSource:
    return resolve_model(name, weights=weights, revision=revision)


def a_refusal(name: str, *, weights: Weights = Weights.RANDOM, revision: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve_model(name, weights=weights, revision=revision)
    return caught.value


def a_model_directory(path: Path, *, config: object = TINY) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def a_preset_directory(path: Path, *, index: str, config: object = TINY) -> Path:
    (path / "index.yaml").write_text(index, encoding="utf-8")
    (path / "tiny.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def a_preset(preset_id: str) -> Preset:
    return next(preset for preset in list_presets() if preset.id == preset_id)


def test_a_preset_id_stands_for_its_shipped_config() -> None:
    source = a_source("llama-3.1-8b")
    assert (source.kind, source.id, source.hub_id) == ("preset", "llama-3.1-8b", "meta-llama/Llama-3.1-8B")
    assert Path(source.location) == configs_dir() / "models" / "llama-3.1-8b.json"
    assert source.reason == "llama-3.1-8b is a preset"


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"])
def test_a_hub_id_with_random_weights_stands_for_the_preset_of_its_shapes(name: str) -> None:
    source = a_source(name)
    assert (source.kind, source.id, source.hub_id) == ("preset", "llama-3.1-8b", name)
    assert source.reason == f"{name} has the shapes of preset llama-3.1-8b"


def test_pretrained_weights_of_a_preset_come_from_its_hub_repository() -> None:
    source = a_source("gpt2", weights=Weights.PRETRAINED, revision="607a30d")
    assert (source.kind, source.id, source.revision) == ("hub", "gpt2", "607a30d")
    assert source.location == source.hub_id == "openai-community/gpt2"


def test_pretrained_weights_of_a_chat_model_are_not_those_of_its_base_model() -> None:
    source = a_source("meta-llama/Llama-3.1-8B-Instruct", weights=Weights.PRETRAINED)
    assert source.location == "meta-llama/Llama-3.1-8B-Instruct"
    assert source.id == "meta-llama-llama-3.1-8b-instruct"


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.usefixtures("workdir")
def test_any_other_hub_id_is_left_to_the_hub(weights: Weights) -> None:
    source = a_source("EleutherAI/pythia-1.4b", weights=weights, revision="step3000")
    assert (source.kind, source.id) == ("hub", "eleutherai-pythia-1.4b")
    assert source.location == source.hub_id == "EleutherAI/pythia-1.4b"
    assert source.revision == "step3000"


def test_a_revision_of_a_hub_id_comes_from_the_hub_even_where_a_preset_has_its_shapes() -> None:
    source = a_source("Qwen/Qwen3-8B", revision="main")
    assert (source.kind, source.location, source.revision) == ("hub", "Qwen/Qwen3-8B", "main")


def test_a_preset_id_with_a_revision_is_refused_with_the_hub_id_to_name() -> None:
    error = a_refusal("qwen3-8b", revision="main")
    assert error.message == "preset qwen3-8b has no revisions"
    assert "Qwen/Qwen3-8B" in error.hint


def test_a_directory_stands_for_the_model_in_it(tmp_path: Path) -> None:
    directory = a_model_directory(tmp_path / "My Model_v2")
    source = a_source(str(directory))
    assert (source.kind, source.id, source.hub_id) == ("directory", "my-model_v2", None)
    assert source.location == str(directory)
    assert read_config(source) == TINY


def test_the_current_directory_is_named_by_its_own_name(workdir: Path) -> None:
    (workdir / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    source = a_source(".")
    assert (source.kind, source.location) == ("directory", str(workdir.resolve()))
    assert source.id not in {"", "model"}


def test_a_directory_with_a_config_hides_a_preset_and_a_hub_id_of_its_name(workdir: Path) -> None:
    a_model_directory(workdir / "gpt2")
    a_model_directory(workdir / "Qwen" / "Qwen3-8B")
    assert a_source("gpt2").kind == "directory"
    assert a_source("Qwen/Qwen3-8B").kind == "directory"


def test_a_directory_without_a_config_does_not_hide_a_preset(workdir: Path) -> None:
    (workdir / "gpt2").mkdir()
    assert a_source("gpt2").kind == "preset"


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    error = a_refusal(str(tmp_path))
    assert error.message == f"directory {tmp_path} has no config.json"
    assert "save_pretrained" in error.hint
    assert error.exit_code == 2


def test_a_directory_with_an_adapter_asks_for_its_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert "the adapter belongs to" in a_refusal(str(tmp_path)).hint


def test_a_directory_with_a_revision_is_refused(tmp_path: Path) -> None:
    directory = a_model_directory(tmp_path / "model")
    assert "has no revisions" in a_refusal(str(directory), revision="main").message


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("llama-3.1-8", "llama-3.1-8b"),
        ("Llama-3.1-8B", "llama-3.1-8b"),
        ("mistral-7b", "mistral-7b-v0.1"),
        ("qwen2.5-7", "qwen2.5-7b"),
        ("gpt-2", "gpt2"),
    ],
)
@pytest.mark.usefixtures("workdir")
def test_an_unknown_model_names_the_nearest_preset(name: str, nearest: str) -> None:
    error = a_refusal(name)
    assert error.message == f"unknown model {name!r}"
    assert nearest in error.hint


@pytest.mark.usefixtures("workdir")
def test_presets_that_a_name_begins_come_before_those_that_look_like_it() -> None:
    assert a_refusal("deepseek-r1").hint.count("deepseek-r1-distill") == 3


@pytest.mark.parametrize("name", ["qwen3-8b", "Qwen/Qwen3-8B", "qwen/qwen3-8b-base", "QWEN3-8B"])
def test_an_id_or_a_hub_id_finds_its_preset(name: str) -> None:
    found = find_presets(name)
    assert isinstance(found, Preset)
    assert found.id == "qwen3-8b"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("gemma-2", ["gemma-2-2b", "gemma-2-9b"]),  # of an id
        ("TinyLlama/", ["tinyllama-1.1b"]),  # of a Hub id
        ("Qwen3-4B-Think", ["qwen3-4b"]),  # of a further Hub id
        ("gpt_oss", ["gpt-oss-20b", "gpt-oss-120b"]),  # of a family
    ],
)
def test_a_part_of_a_name_finds_all_that_have_it(text: str, ids: list[str]) -> None:
    found = find_presets(text)
    assert isinstance(found, tuple)
    assert [preset.id for preset in found] == ids


def test_no_text_finds_all_presets() -> None:
    assert find_presets("") == list_presets()


@pytest.mark.parametrize(
    ("text", "hint"), [("Qwen/Qwen3-7B", "qwen3-8b"), ("zzz", "`peakvram models` lists all")]
)
def test_a_text_that_no_preset_has_is_refused_with_what_is_near(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"^no model preset has '{text}'") as caught:
        find_presets(text)
    assert hint in caught.value.hint


@pytest.mark.usefixtures("workdir")
def test_an_unknown_model_like_no_preset_says_what_a_model_can_be() -> None:
    hint = a_refusal("zzz").hint
    assert "peakvram models" in hint
    assert "org/name" in hint


def test_an_address_of_the_hub_is_refused_with_the_id_in_it() -> None:
    error = a_refusal("https://huggingface.co/Qwen/Qwen3-8B/tree/main")
    assert error.hint == "write Qwen/Qwen3-8B"


@pytest.mark.parametrize("name", ["/no/such/place", "./nothing", "../nothing/here", "~no-such-user/model"])
@pytest.mark.usefixtures("workdir")
def test_a_path_to_nothing_is_not_taken_for_a_hub_id(name: str) -> None:
    assert a_refusal(name).message == f"there is no directory {name!r}"


def test_a_file_is_refused_and_asks_for_its_directory(workdir: Path) -> None:
    directory = a_model_directory(workdir / "model")
    error = a_refusal("model/config.json")
    assert error.message == "'model/config.json' is a file"
    assert a_refusal(str(directory / "config.json")).hint == error.hint


@pytest.mark.parametrize(
    "name", ["a/b/c", "org/", "/name", "org/-name", "org/na--me", "org/na..me", "org/name.git", "or g/name"]
)
@pytest.mark.usefixtures("workdir")
def test_what_the_hub_would_not_take_for_an_id_is_refused_here(name: str) -> None:
    a_refusal(name)


@given(
    name=st.text(min_size=1, max_size=300), weights=st.sampled_from(Weights), revision=st.none() | st.text()
)
def test_any_text_is_resolved_or_refused_in_one_line(
    name: str, weights: Weights, revision: str | None
) -> None:
    try:
        said = resolve_model(name, weights=weights, revision=revision).reason
    except ConfigError as error:
        said = f"{error.message} ({error.hint})"
    assert len(said.splitlines()) == 1


@given(
    organisation=st.from_regex(r"[A-Za-z0-9_]{1,20}", fullmatch=True), name=st.text(st.sampled_from("aZ9_.-"))
)
def test_a_source_is_fit_for_a_file_name_whose_parts_stand_between_two_hyphens(
    organisation: str, name: str
) -> None:
    try:
        source = resolve_model(f"{organisation}/{name}", weights=Weights.RANDOM)
    except ConfigError:
        return
    assert "--" not in source.id
    assert not source.id.startswith((".", "-"))
    assert len(source.id) <= 96


def test_the_config_of_a_preset_is_the_shipped_file() -> None:
    config = read_config(a_source("mistral-7b-v0.1"))
    assert config["model_type"] == "mistral"
    assert config["sliding_window"] == 4096


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"model_type": "llama",', "is not JSON: .* \\(line 1, column 24\\)"),
        ("", "is not JSON"),
        ("[1, 2]", "holds no JSON object"),
        ('{"hidden_size": 8}', "names no model_type"),
        ('{"model_type": ""}', "names no model_type"),
        ('{"model_type": 3}', "names no model_type"),
    ],
)
def test_a_corrupt_config_names_the_file_and_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} {complaint}") as caught:
        read_config(a_source(str(tmp_path)))
    assert caught.value.hint


def test_a_config_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_config(a_source(str(tmp_path)))


def test_a_config_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_config_file(tmp_path / "config.json")


def test_every_shipped_config_has_an_entry_and_every_entry_a_config() -> None:
    files = {path.stem for path in (configs_dir() / "models").glob("*.json")}
    assert files == {preset.id for preset in list_presets()}


def test_the_presets_hold_facts_of_the_architecture_only() -> None:
    for preset in list_presets():
        assert not RUNTIME_KEYS & read_config_file(preset.config_path).keys(), preset.id


def test_every_hub_id_of_every_preset_resolves_to_it() -> None:
    for preset in list_presets():
        for hub_id in preset.hub_ids:
            assert a_source(hub_id).location == str(preset.config_path)


def test_the_summary_of_a_preset_gives_the_figures_of_its_config() -> None:
    architecture = a_preset("llama-3.1-405b").architecture
    assert (architecture.num_layers, architecture.hidden_size, architecture.vocab_size) == (
        126,
        16384,
        128256,
    )
    assert (architecture.num_heads, architecture.num_kv_heads) == (128, 8)


def test_the_summary_reads_the_names_that_gpt2_gives_its_figures() -> None:
    architecture = a_preset("gpt2").architecture
    assert (architecture.num_layers, architecture.hidden_size) == (12, 768)
    assert architecture.num_heads == architecture.num_kv_heads == 12


def test_a_preset_added_to_the_directory_is_listed(tmp_path: Path) -> None:
    (preset,) = read_presets(a_preset_directory(tmp_path, index=f"tiny: {ENTRY}"))
    assert (preset.id, preset.hub_id, preset.num_parameters, preset.note) == ("tiny", "org/tiny", 7, "")
    assert preset.architecture.num_kv_heads == 4  # as many as heads, where the config gives none


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        (f"tiny: {ENTRY}\nother: {ENTRY}", "org/tiny belongs to tiny and to other"),
        (f"tiny: {ENTRY.replace('mit', 'mit, licence: x')}", "tiny.licence: "),
        (f"tiny: {ENTRY.replace('7', '7.5B')}", "tiny.num_parameters: "),
        (f"tiny: {ENTRY.replace('org/tiny', 'tiny')}", "tiny.hub_id: "),
        (f"missing: {ENTRY}", "missing.json: no such file"),
    ],
)
def test_a_wrong_index_names_the_file_and_the_key(tmp_path: Path, index: str, complaint: str) -> None:
    directory = a_preset_directory(tmp_path, index=index)
    with pytest.raises(ConfigError, match=re.escape(complaint)) as caught:
        read_presets(directory)
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("value", [None, 0, "many"])
def test_a_preset_without_a_figure_is_refused(tmp_path: Path, value: object) -> None:
    directory = a_preset_directory(tmp_path, index=f"tiny: {ENTRY}", config={**TINY, "hidden_size": value})
    with pytest.raises(ConfigError, match=r"tiny\.json gives no hidden_size"):
        read_presets(directory)
