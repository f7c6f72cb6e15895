"""Which GPUs CUDA sees: every short list, order and machine, held against torch's own reading."""

from __future__ import annotations

import itertools
import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.hardware.nvml import RealGpu, WholeCard
from profiler.hardware.visible import find_visible, match_by_uuid
from profiler.units import GIB
from profiler.virtual.state import Quirk, device_uuid
from tests.unit.hardware.machines import Play, a_device, an_a100

RTX_4090 = ("NVIDIA GeForce RTX 4090", (8, 9), 24 * GIB)
RTX_3060 = ("NVIDIA GeForce RTX 3060", (8, 6), 12 * GIB)
A100 = ("NVIDIA A100-SXM4-80GB", (8, 0), 80 * GIB)


def a_card(
    bus: int, model: tuple[str, tuple[int, int], int] = RTX_4090, *, num_slices: int | None = None
) -> WholeCard:
    """A card at this place on the bus; its UUID starts with the place, twice."""
    name, capability, total_bytes = model
    uuid = f"GPU-{bus:04x}{bus:04x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
    card = WholeCard(
        nvml_index=9 - bus,
        uuid=uuid,
        name=name,
        pci_bus_id=f"0000:{bus:02x}:00.0",
        compute_capability=capability,
        is_split=num_slices is not None,
        gpus=(),
    )
    gpus = [a_gpu(card, uuid, total_bytes)]
    if num_slices is not None:
        names = [f"MIG-{bus:04x}{number:04x}-aaaa-5aaa-8aaa-aaaaaaaaaaaa" for number in range(num_slices)]
        gpus = [a_gpu(card, name, 10 * GIB, mig_instance=(7 + n, 0)) for n, name in enumerate(names)]
    return WholeCard(
        **{field: getattr(card, field) for field in WholeCard.__slots__ if field != "gpus"}, gpus=tuple(gpus)
    )


def a_gpu(
    card: WholeCard, uuid: str, total_bytes: int, mig_instance: tuple[int, int] | None = None
) -> RealGpu:
    return RealGpu(
        index=None,
        nvml_index=card.nvml_index,
        uuid=uuid,
        name=card.name,
        pci_bus_id=card.pci_bus_id,
        total_bytes=total_bytes,
        used_bytes=0,
        compute_capability=card.compute_capability,
        driver="580.65.06",
        mig_instance=mig_instance,
        parent_uuid=card.uuid if mig_instance else None,
    )


def seen(cards: list[WholeCard], **environ: str) -> list[str]:
    """The bus numbers, in CUDA's order."""
    return [gpu.pci_bus_id[5:7] for gpu in find_visible(cards, environ).gpus]


ALIKE = [a_card(3), a_card(1), a_card(2)]
MIXED = [a_card(1, RTX_3060), a_card(2, A100), a_card(3)]
NUMBERS = ("0", "1", "2", "3", "-1", "x", "", " 1", "+2", "1gpu2")
WHOLE = tuple(card.uuid for card in ALIKE)
PREFIXES = ("GPU-0001", "GPU-0003", "GPU-000", "GPU-ffff", *WHOLE, "0", "MIG-0001")
ORDERS: tuple[dict[str, str], ...] = (
    {},
    {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"},
)


def as_torch_reads(wanted: str, uuids: list[str]) -> list[int]:
    """The ordinals torch would use before it starts CUDA, by its own functions."""
    from torch.cuda import _parse_visible_devices, _transform_uuid_to_ordinals

    with mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": wanted}):
        parsed = _parse_visible_devices()
    if parsed and isinstance(parsed[0], str):
        return _transform_uuid_to_ordinals([str(entry) for entry in parsed], uuids)
    ordinals = [int(entry) for entry in parsed]
    return list(itertools.takewhile(lambda ordinal: ordinal < len(uuids), ordinals))


def lists(entries: tuple[str, ...]) -> list[str]:
    return [",".join(chosen) for length in (1, 2, 3) for chosen in itertools.product(entries, repeat=length)]


@pytest.mark.parametrize("order", ORDERS, ids=["default", "pci", "fastest"])
@pytest.mark.parametrize("cards", [ALIKE, MIXED], ids=["alike", "mixed"])
@pytest.mark.parametrize("entries", [NUMBERS, PREFIXES], ids=["numbers", "uuids"])
def test_every_short_list_is_read_as_torch_reads_it(
    cards: list[WholeCard], order: dict[str, str], entries: tuple[str, ...]
) -> None:
    ordered = [gpu.uuid for gpu in find_visible(cards, order).gpus]
    for wanted in lists(entries):
        if wanted.startswith("MIG-"):
            continue  # torch leaves those to CUDA
        gpus = find_visible(cards, order | {"CUDA_VISIBLE_DEVICES": wanted}).gpus
        assert [gpu.uuid for gpu in gpus] == [ordered[i] for i in as_torch_reads(wanted, ordered)], wanted
        assert [gpu.index for gpu in gpus] == list(range(len(gpus))), wanted


@given(st.lists(st.sampled_from((*NUMBERS, *PREFIXES)) | st.text("0123-,gG x", max_size=6), max_size=5))
def test_any_list_at_all_names_no_card_twice_and_none_that_is_not_there(entries: list[str]) -> None:
    gpus = find_visible(ALIKE, {"CUDA_VISIBLE_DEVICES": ",".join(entries)}).gpus
    assert len({gpu.uuid for gpu in gpus}) == len(gpus)
    assert {gpu.uuid for gpu in gpus} <= set(WHOLE)
    assert [gpu.index for gpu in gpus] == list(range(len(gpus)))


def test_unset_shows_every_card_and_empty_shows_none() -> None:
    assert seen(ALIKE) == ["01", "02", "03"]
    assert seen(ALIKE, CUDA_VISIBLE_DEVICES="") == []
    assert "leaves CUDA none of this machine's GPUs" in find_visible(ALIKE, {"CUDA_VISIBLE_DEVICES": ""}).note


def test_equal_cards_come_in_the_order_of_the_bus_whatever_nvml_says() -> None:
    for cards in itertools.permutations(ALIKE):
        assert seen(list(cards)) == ["01", "02", "03"]
        assert find_visible(cards, {}).is_certain


@pytest.mark.parametrize("wanted", [None, "0", "1,0", "GPU-0001", "GPU-0003,GPU-0001"])
@pytest.mark.parametrize("order", ORDERS, ids=["default", "pci", "fastest"])
def test_only_numbers_among_unequal_cards_by_cudas_own_order_are_uncertain(
    wanted: str | None, order: dict[str, str]
) -> None:
    environ = order if wanted is None else order | {"CUDA_VISIBLE_DEVICES": wanted}
    visible = find_visible(MIXED, environ)
    by_bus = order.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    by_uuid = wanted is not None and wanted.startswith("GPU-")
    assert visible.is_certain == (by_bus or by_uuid)
    assert visible.is_certain == ("guess" not in visible.note)


def test_unequal_cards_are_guessed_newest_first_and_by_the_bus_where_asked() -> None:
    assert seen(MIXED) == ["03", "01", "02"]
    assert seen(MIXED, CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["01", "02", "03"]
    assert seen(MIXED, CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES="2,0") == ["03", "01"]


def test_a_uuid_may_be_shortened_only_while_it_names_one_card() -> None:
    assert seen(ALIKE, CUDA_VISIBLE_DEVICES="GPU-0002") == ["02"]
    assert seen(ALIKE, CUDA_VISIBLE_DEVICES="GPU-000") == []
    assert seen(ALIKE, CUDA_VISIBLE_DEVICES="GPU-0003,GPU-000,GPU-0001") == ["03"]


SPLIT = a_card(1, A100, num_slices=3)
FIRST, SECOND = SPLIT.gpus[0], SPLIT.gpus[1]


@pytest.mark.parametrize(
    ("wanted", "uuids"),
    [
        (None, [FIRST.uuid]),
        ("0", [FIRST.uuid]),
        ("1", [a_card(2).uuid]),
        ("1,0", [FIRST.uuid]),
        (SPLIT.uuid, [FIRST.uuid]),
        (SECOND.uuid, [SECOND.uuid]),
        (f"{SECOND.uuid},{FIRST.uuid}", [SECOND.uuid]),
        (f"MIG-{SPLIT.uuid}/8/0", [SECOND.uuid]),
        (f"MIG-{SPLIT.uuid}/6/0", []),
        ("MIG-0000", []),
        (f"{SECOND.uuid},{SECOND.uuid}", []),
    ],
)
def test_a_process_sees_one_slice_and_nothing_beside_it(wanted: str | None, uuids: list[str]) -> None:
    environ = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if wanted is not None:
        environ["CUDA_VISIBLE_DEVICES"] = wanted
    assert [gpu.uuid for gpu in find_visible([SPLIT, a_card(2)], environ).gpus] == uuids


def test_a_card_in_mig_mode_without_slices_cannot_be_used() -> None:
    empty = a_card(1, A100, num_slices=0)
    assert seen([empty, a_card(2)], CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["02"]
    assert "MIG mode" in find_visible([empty], {}).note


def test_a_uuid_matches_with_or_without_its_prefix() -> None:
    digits = ALIKE[1].uuid.removeprefix("GPU-")
    gpus = find_visible(ALIKE, {}).gpus
    for written in (digits, digits.upper(), digits.replace("-", ""), f"GPU-{digits}"):
        match = match_by_uuid(gpus, written)
        assert match is not None
        assert match.pci_bus_id == "0000:01:00.0"
    assert match_by_uuid(gpus, "0" * 32) is None


def test_a_slice_is_found_by_its_cards_uuid_only_while_it_is_the_only_one() -> None:
    assert match_by_uuid([SECOND], SPLIT.uuid) == SECOND
    assert match_by_uuid(SPLIT.gpus, SPLIT.uuid) is None
    assert match_by_uuid(SPLIT.gpus, SECOND.uuid.removeprefix("MIG-")) == SECOND


SEE = """
from profiler.hardware.nvml import open_nvml
from profiler.hardware.visible import find_visible
with open_nvml() as nvml:
    show(find_visible(nvml.list_cards().cards, os.environ))
"""


def test_nvmls_reversed_list_does_not_change_what_cuda_numbers(play: Play) -> None:
    bench = play(a_device(), a_device(), a_device(), quirks=Quirk.NVML_REVERSED)
    gpus = bench.run(SEE)["gpus"]
    assert [(gpu["index"], gpu["nvml_index"], gpu["pci_bus_id"]) for gpu in gpus] == [
        (0, 2, "0000:01:00.0"),
        (1, 1, "0000:02:00.0"),
        (2, 0, "0000:03:00.0"),
    ]
    (gpu,) = bench.run(SEE, CUDA_VISIBLE_DEVICES="2")["gpus"]
    assert (gpu["index"], gpu["nvml_index"], gpu["uuid"]) == (0, 0, device_uuid(a_device().name, 2))


def test_a_slice_of_the_driver_is_found_by_its_uuid(play: Play) -> None:
    bench = play(an_a100(), an_a100(), quirks=Quirk.MIG)
    second = "MIG" + device_uuid(an_a100().name, 1)[3:]
    (gpu,) = bench.run(SEE, CUDA_VISIBLE_DEVICES=second)["gpus"]
    assert gpu["uuid"] == second
    assert gpu["pci_bus_id"] == "0000:02:00.0"
