"""Whether a job can run, from its model's config alone: the one judge that every command asks first.

It refuses what the libraries would refuse once the model is loaded, and what they would drop without a word.
Where the config does not tell, it says nothing: the run will.
"""

from __future__ import annotations

import difflib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.formula.configs import config_of, read_architecture
from profiler.formula.images import check_images
from profiler.formula.modules import FUSED_EXPERTS, OUTPUT, ModuleKind, modules_of, stacked_experts
from profiler.formula.positions import num_positions
from profiler.jobs.alloc_settings import check_alloc_conf
from profiler.jobs.choices import Attention, Task
from profiler.jobs.job import Full, Inference
from profiler.jobs.model_classes import find_class_of, tasks_of
from profiler.jobs.targets import is_targeted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.jobs.job import Int8Lora, JobSpec, Lora, QLora

_LISTED = 12
_HEADS: Mapping[Task, tuple[str, ...]] = MappingProxyType(
    {
        Task.CAUSAL_LM: (OUTPUT,),
        Task.SEQUENCE_CLASSIFICATION: ("score",),
        Task.TOKEN_CLASSIFICATION: ("score", "classifier"),
    }
)
"""What the heads on a decoder are called; those of classes are trained beside the adapters."""


def check_runnable(job: JobSpec, *, is_here: bool = True, may_fetch: bool = True) -> None:
    """Makes sure that a job can run, as far as its model's config tells.

    Args:
        job: the job.
        is_here: whether it is to run with the libraries that are installed here; else only what holds with
            all of them is judged.
        may_fetch: whether a config that is not on this machine may be fetched; else a job that needs one is
            judged without.

    Raises:
        ConfigError: it cannot, or part of what it asks for would be dropped; or its model is not known.
        EnvironmentUnfitError: it needs what is not installed; or its config cannot be had.
    """
    if is_here:
        check_alloc_conf(job.alloc_conf)
        _check_flash_attention(job)
    config = config_of(job.model, weights=job.weights, revision=job.revision, may_fetch=may_fetch)
    if config is None:
        return
    if is_here:
        _check_family(job, config)
    _check_length(job, config)
    check_images(job, config)
    if not isinstance(job.method, Full | Inference):
        _check_targets(job, job.method, config)


def tokens_of(job: JobSpec) -> int:
    """The longest row that a job feeds to its model, or to a part of it."""
    # The last new token is not fed back.
    generated = job.method.new_tokens - 1 if isinstance(job.method, Inference) else 0
    return max(job.seq_len + generated, job.decoder_len)


def max_seq_len(job: JobSpec) -> int | None:
    """The longest row that the job's model has positions for; None where they are computed, or not known.

    Rotations go on beyond `max_position_embeddings`: such a model runs, however badly it writes. Of a
    generating job it is the longest prompt that leaves room for the new tokens.
    """
    config = config_of(job.model, weights=job.weights, revision=job.revision, may_fetch=False)
    limit = num_positions(config) if config is not None else None
    generated = job.method.new_tokens - 1 if isinstance(job.method, Inference) else 0
    return None if limit is None else limit - generated


def _check_length(job: JobSpec, config: Mapping[str, object]) -> None:
    limit = num_positions(config)
    if limit is not None and tokens_of(job) > limit:
        raise too_long(job, limit)


def too_long(job: JobSpec, limit: int) -> ConfigError:
    """What is said of a job with longer rows than its model has positions for."""
    generated = job.method.new_tokens - 1 if isinstance(job.method, Inference) else 0
    flag = "--seq-len" if job.seq_len + generated > limit else "--target-len"
    return ConfigError(
        f"{job.model} has positions for {limit} tokens, not for {tokens_of(job)}",
        hint=f"choose {flag} {limit - generated} or less",
    )


def _check_flash_attention(job: JobSpec) -> None:
    if job.attention is Attention.FLASH_ATTENTION_2 and importlib.util.find_spec("flash_attn") is None:
        raise EnvironmentUnfitError(
            "flash_attention_2 needs the flash-attn package, which is not installed",
            hint="pip install flash-attn, or choose --attention sdpa, which runs flash kernels where it can",
        )


def _check_family(job: JobSpec, config: Mapping[str, object]) -> None:
    """What the installed transformers has for the family."""
    tasks = tasks_of(str(config["model_type"]))
    if tasks and job.task not in tasks:
        raise ConfigError(
            f"{job.model} has no class for {job.task} in transformers {version('transformers')}",
            hint=f"choose {' or '.join(f'--task {task}' for task in tasks)}",
        )
    model = find_class_of(config, job.task)
    if model is None:
        return
    if job.attention not in model.attentions:
        raise ConfigError(
            f"{job.model} has no {job.attention} attention in transformers {version('transformers')}",
            hint=f"choose {' or '.join(f'--attention {one}' for one in sorted(model.attentions))}",
        )
    is_asked = job.gradient_checkpointing.enabled and not isinstance(job.method, Inference)
    if is_asked and not model.has_checkpointing:
        raise ConfigError(
            f"{job.model} has no gradient checkpointing in transformers {version('transformers')}",
            hint="choose --no-gradient-checkpointing",
        )


def _check_targets(job: JobSpec, method: Lora | QLora | Int8Lora, config: Mapping[str, object]) -> None:
    """That every target names modules that adapters can go to; nothing of a family that is not described."""
    if job.task is Task.TOKEN_CLASSIFICATION and method.targets == "all-linear":
        raise ConfigError(
            "all-linear takes in the head of token-classification, which peft trains as a whole besides",
            hint="name targets, such as query,value of BERT or q_proj,v_proj of Llama",
        )
    if job.task not in _HEADS:
        return  # as of a part of a larger model
    try:
        architecture = read_architecture(config)
    except ConfigError:
        return
    experts = stacked_experts(architecture)
    if experts and not _has_stacked_experts():
        return
    if method.targets == "all-linear":
        _check_experts(job, method, experts)
        return
    of_experts = [target for target in method.targets if target.rpartition(".")[2] in experts]
    if of_experts:
        fused = FUSED_EXPERTS[architecture.model_type]
        asked = {target.rpartition(".")[2] for target in of_experts} & set(fused)
        if len(asked) == 1:
            (missing,) = set(fused) - asked
            raise ConfigError(
                f"targets: {job.model} keeps {' and '.join(fused)} of its experts in one tensor",
                hint=f"name {missing} too, or neither",
            )
        _check_experts(job, method, of_experts)
    modules = modules_of(architecture)
    if job.task is not Task.CAUSAL_LM:
        body = {path: kind for path, kind in modules.items() if path != OUTPUT}
        modules = body | dict.fromkeys(_HEADS[job.task], ModuleKind.OTHER)
    _check_modules(job, [target for target in method.targets if target not in of_experts], modules)


def _check_experts(job: JobSpec, method: Lora | QLora | Int8Lora, experts: Sequence[str]) -> None:
    """Peft's `ParamWrapper`, which adapts a tensor that is no module of its own."""
    unfit = "dropout" if method.dropout else "use_dora" if method.use_dora else ""
    if experts and unfit:
        raise ConfigError(
            f"{unfit}: peft has no {'dropout' if method.dropout else 'DoRA'} for the experts of {job.model}",
            hint="leave it out, or name targets such as q_proj,k_proj,v_proj,o_proj",
        )


def _check_modules(job: JobSpec, targets: Sequence[str], modules: Mapping[str, ModuleKind]) -> None:
    for target in targets:
        kinds = {kind for path, kind in modules.items() if is_targeted(path, (target,))}
        if not kinds:
            raise ConfigError(
                f"targets: {job.model} has no module {target!r}", hint=_nearest(target, modules)
            )
        if ModuleKind.OTHER in kinds:
            raise ConfigError(
                f"targets: {target!r} of {job.model} is no module that adapters can go to",
                hint=_linear_names(modules),
            )


def _nearest(target: str, modules: Mapping[str, ModuleKind]) -> str:
    """What may have been meant, in as many parts of a path as were written."""
    num_parts = target.count(".") + 1
    fit = [path.split(".") for path, kind in modules.items() if kind is not ModuleKind.OTHER]
    ends = dict.fromkeys(["all-linear", *(".".join(parts[-num_parts:]) for parts in fit)])
    near = difflib.get_close_matches(target, ends, n=1)
    return f"did you mean {near[0]!r}? {_linear_names(modules)}" if near else _linear_names(modules)


def _linear_names(modules: Mapping[str, ModuleKind]) -> str:
    names = dict.fromkeys(
        path.rpartition(".")[2]
        for path, kind in modules.items()
        if kind is ModuleKind.LINEAR and path != OUTPUT
    )
    return f"its linear layers are {', '.join([*names][:_LISTED])}; all-linear names them all"


def _has_stacked_experts() -> bool:
    """Whether transformers stacks the experts' matrices, and peft knows of it."""
    try:
        is_new = int(version("transformers").partition(".")[0]) >= 5
    except PackageNotFoundError:
        return False
    peft = importlib.util.find_spec("peft")
    if peft is None or peft.origin is None:
        return False
    return is_new and (Path(peft.origin).parent / "utils/transformers_weight_conversion.py").is_file()
