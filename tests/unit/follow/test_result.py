from __future__ import annotations

from profiler.follow.result import CommandResult, Ending, OutOfMemory, ProcessReport
from tests.unit.follow.reports import a_process, a_result

SECRET = "s3cr3t"


def test_a_result_keeps_no_secret_of_its_command_or_of_what_was_said() -> None:
    words = (
        "env",
        f"HF_TOKEN={SECRET}",
        "python",
        "train.py",
        "--hub_token",
        SECRET,
        "--max_new_tokens",
        "8",
    )
    ending = Ending(kind="exit", error=f"HTTPError: 401 for https://me:{SECRET}@host/x")
    full = OutOfMemory(requested_bytes=1, line=f'train.py:3: run(token="{SECRET}")')
    told = a_process().model_dump() | {"command": words, "ending": ending, "out_of_memory": full}
    process = ProcessReport.model_validate(told)
    whole = a_result(process).model_dump() | {"command": words, "notes": (f"api_key='{SECRET}'",)}
    result = CommandResult.model_validate(whole)
    assert SECRET not in result.model_dump_json()
    kept = ("env", "HF_TOKEN=***", "python", "train.py", "--hub_token", "***", "--max_new_tokens", "8")
    assert result.command == kept
    assert result.processes[0].command == kept
