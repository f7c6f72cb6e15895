"""What jobs, cards and versions are called wherever they are shown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, assert_never

from profiler.jobs.choices import Loop, Loss, Task
from profiler.jobs.job import Full, GradientCheckpointing, Inference, Int8Lora, JobSpec, Lora, Method, QLora
from profiler.jobs.settings import Settings, unusual
from profiler.process.tested import newer_than_tested
from profiler.records.store import short_model
from profiler.report.base.verdict import device_label, outcome_label
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiler.records.schema import Device, Environment, PhaseReading, Record
    from profiler.records.study import SweepNote
    from profiler.report.base.arrange import CardRecords

VIRTUAL_FIGURES = (
    "These figures are **virtual**: PyTorch's own CUDA caching allocator ran over a card that is not there. "
    "Nothing in them was measured on hardware."
)
VIRTUAL_CARD = (
    "VIRTUAL GPU: PyTorch's own CUDA allocator ran over a card that is not there; "
    "nothing here was measured on hardware"
)
_VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "driver")


def describe_job(spec: JobSpec) -> str:
    """One line that tells a job from its neighbours."""
    parts = [spec.model, _method(spec.method), str(spec.precision)]
    if spec.task is not Task.CAUSAL_LM:
        parts.insert(1, _task(spec))
    size = f"batch {spec.batch_size} x {spec.seq_len} tokens"
    if isinstance(spec.method, Inference):
        parts.append(f"{size} + {spec.method.new_tokens} new")
    else:
        parts += [str(spec.optimizer) if spec.foreach else f"{spec.optimizer} without foreach", size]
        parts += [f"accumulation {spec.accumulation}"] if spec.accumulation > 1 else []
        parts.append(_checkpointing(spec.gradient_checkpointing))
    parts.append(f"{spec.attention} attention")
    if spec.loop is not Loop.PLAIN:
        parts.append(f"{spec.loop} loop")
    if spec.loss is Loss.CHUNKED:
        parts.append("chunked loss")
    if spec.neftune_alpha:
        parts.append(f"NEFTune {spec.neftune_alpha:g}")
    if spec.eval_batches:
        parts.append(_evaluation(spec))
    if spec.save:
        parts.append("saved")
    if spec.alloc_conf:
        parts.append(spec.alloc_conf)
    return ", ".join(parts)


def _evaluation(spec: JobSpec) -> str:
    batches = f"{spec.eval_batches} {'batch' if spec.eval_batches == 1 else 'batches'}"
    gathered = "all logits on the card"
    if spec.prediction_loss_only:
        gathered = "losses alone"
    elif spec.eval_accumulation_steps is not None:
        gathered = f"logits on the card for {spec.eval_accumulation_steps}"
    return f"{batches} of {spec.eval_batch_size} evaluated ({gathered})"


def short_job(spec: JobSpec) -> str:
    """The same with a short name of the model."""
    return describe_job(spec.model_copy(update={"model": short_model(spec.model)}))


def describe_settings(settings: Settings, *, besides: Sequence[str] = ()) -> str:
    """What jobs share: the settings most asked about, others where no default; not `besides`."""
    words = {
        "gradient_checkpointing.enabled": "gradient checkpointing {}",
        "precision": "{}",
        "optimizer": "{}",
        "attention": "{} attention",
    }
    # Inference has neither checkpointing nor an optimizer.
    named = {key: text.format(settings[key]) for key, text in words.items() if key in settings}
    besides_named = ["model", "seq_len", "batch_size", "gpu", "gpu_memory_bytes", *named, *besides]
    besides_named += [key for key in settings if key.startswith("method.")]
    return ", ".join(
        [text for key, text in named.items() if key not in besides] + unusual(settings, besides=besides_named)
    )


def count_outcomes(records: Iterable[Record]) -> str:
    """`612 records: 431 ok, 81 OOM, 100 OOM (inferred)`."""
    counts = Counter(outcome_label(record.outcome) for record in records)
    return f"{counts.total()} records: " + ", ".join(
        f"{number} {label}" for label, number in sorted(counts.items())
    )


def describe_kinds(cards: Iterable[CardRecords]) -> str:
    """`(virtual)` or `(real)` for a heading, both where there are both."""
    kinds = sorted({card.device.kind for card in cards})
    return f" ({' and '.join(kinds)})" if kinds else ""


def describe_card(card: CardRecords) -> str:
    """`virtual NVIDIA GeForce RTX 4090 (rtx-4090), 23.52 GiB`; a real card is called real."""
    device = card.device
    kind = "" if device.kind == "virtual" else "real "
    return f"{kind}{device_label(device)} ({device.id}), {format_bytes(device.total_bytes)}"


def managed_text(managed_bytes: int) -> str:
    """What stands below the figures where paged optimizers keep state outside them."""
    return (
        f"{format_bytes(managed_bytes)} of managed memory (paged optimizer state) come on top: "
        "the driver moves them between card and host"
    )


def host_text(phases: Iterable[PhaseReading]) -> str | None:
    """The most that a phase takes of the host's memory; None where nothing is known, or nothing is taken."""
    known = [(phase.host.peak_bytes, phase.host.source, phase.name) for phase in phases if phase.host]
    peak_bytes, source, name = max(known, default=(0, "", ""))
    if not peak_bytes:
        return None
    besides = ", besides Python and its libraries" if source == "computed" else ""
    return f"host memory ({source}): {format_bytes(peak_bytes)} at most, in {name}{besides}"


def provenance(device: Device) -> str:
    """What stands beside every group of figures: `virtual (rtx-4090)`, or what they were measured on."""
    return f"virtual ({device.id})" if device.kind == "virtual" else f"measured on {device.name}"


def describe_versions(card: CardRecords) -> str:
    """The versions the figures hold for, and which of them are newer than any that was tested."""
    peakvram = sorted({record.environment.peakvram for record in card.records if record.environment})
    own = f"peakvram {' and '.join(peakvram)}"
    named = ", ".join([*versions_of(card.environment, _VERSIONS), own])
    return "; ".join([named, *newer_than_tested(card.environment.model_dump())])


def versions_of(environment: Environment | None, names: Iterable[str]) -> list[str]:
    """`torch 2.9.1` of every name that has a version."""
    versions = {name: getattr(environment, name, None) for name in names}
    return [f"{name} {version}" for name, version in versions.items() if version]


def descriptions_of(notes: Iterable[SweepNote]) -> list[str]:
    """What the sweeps of a study say of themselves, each once."""
    return list(dict.fromkeys(note.sweep.description for note in notes if note.sweep.description))


def _method(method: Method) -> str:
    match method:
        case Full():
            return "full fine-tuning"
        case QLora():
            return f"qlora ({method.quant}{_twice(method)}, {_adapter(method)})"
        case Lora() | Int8Lora():
            return f"{method.kind} ({_adapter(method)})"
        case Inference():
            twice = _twice(method) if method.is_4bit else ""
            return f"inference ({'not quantized' if method.quant == 'none' else method.quant}{twice})"
        case _:
            assert_never(method)


def _task(spec: JobSpec) -> str:
    if spec.task is Task.SEQ2SEQ_LM:
        return f"{spec.task} ({spec.decoder_len} target tokens)"
    if spec.task is Task.IMAGE_TEXT_TO_TEXT:
        images = "1 image" if spec.images == 1 else f"{spec.images} images"
        return f"{spec.task} ({images} a row, {spec.image_size} pixels a side)"
    return f"{spec.task} ({spec.num_labels} label{'' if spec.num_labels == 1 else 's'})"


def _twice(method: QLora | Inference) -> str:
    return ", double quantization" if method.double_quant else ""


def _adapter(method: Lora | QLora | Int8Lora) -> str:
    told = {
        "dora": method.use_dora,
        "rslora": method.use_rslora,
        "adapters in 16 bits": not method.autocast_adapter_dtype,
        f"besides {', '.join(method.modules_to_save)}": method.modules_to_save,
    }
    return ", ".join([f"rank {method.rank}", *(words for words, is_told in told.items() if is_told)])


def _checkpointing(value: GradientCheckpointing) -> str:
    if not value.enabled:
        return "no gradient checkpointing"
    return "reentrant gradient checkpointing" if value.reentrant else "gradient checkpointing"
