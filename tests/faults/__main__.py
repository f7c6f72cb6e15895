"""The saboteur: `python -m tests.faults`; see `scripts/faults`."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.builders import ROOT
from tests.faults.kinds import KINDS
from tests.faults.table import COMMANDS, Tally

_UNFIT, _BROKEN = 3, 4
_SEEDS_APART = 1_000_000
_PRIVATE = ("--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


def main() -> int:
    """Read the options, and go on in namespaces of our own."""
    options = _read_options()
    unshare = _find_unshare()
    if unshare is None:
        sys.stderr.write(
            "error: /tmp and /dev/shm cannot be made private here\n"
            "hint: it takes Linux with `unshare`, and root or user namespaces\n"
        )
        return _UNFIT
    if ROOT.is_relative_to("/tmp"):
        sys.stderr.write(
            f"error: {ROOT} lies below /tmp, which the saboteur has for itself\n"
            "hint: move the repository to another place\n"
        )
        return _UNFIT
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    # Ctrl-C reaches all of us; it is for the saboteurs to say how far they came.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        saboteurs = [_start(unshare, options, home / str(i), i) for i in range(options.at_once)]
        told = [saboteur.communicate()[0] for saboteur in saboteurs]
        codes = {saboteur.returncode for saboteur in saboteurs}
    finally:
        kept = [path for path in home.glob("*/kept/*") if options.keep]
        if kept:
            sys.stderr.write(f"kept in {home}: {len(kept)}\n")
        else:
            shutil.rmtree(home, ignore_errors=True)
    if not codes <= {0, _BROKEN}:
        sys.stderr.write(f"error: the saboteur itself failed: {codes}\n")
        return 1
    tally = Tally.of(told)
    sys.stdout.write(f"{tally.to_json() if options.json else tally.to_text()}\n")
    sys.stderr.write(f"seed {options.seed}\n")
    return max(codes)


def _start(unshare: list[str], options: argparse.Namespace, home: Path, number: int) -> subprocess.Popen[str]:
    home.mkdir()
    count = (options.count + number) // options.at_once
    own = {"home": str(home), "seed": options.seed + number * _SEEDS_APART, "count": count}
    order = json.dumps(vars(options) | own)
    command = [*unshare, sys.executable, "-m", "tests.faults.enter", order]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="so many faults (1000)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of what is left to chance; printed"
    )
    parser.add_argument(
        "--kind", action="append", choices=tuple(KINDS), help="only of this kind; may be given again"
    )
    parser.add_argument("--command", action="append", choices=COMMANDS, help="only to this command")
    parser.add_argument(
        "--cold",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of commands that are started as a user does",
    )
    parser.add_argument(
        "--at-once", type=int, default=1, metavar="N", help="so many saboteurs, each in a place of its own"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders of what went wrong")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser.parse_args()


def _find_unshare() -> list[str] | None:
    for own_user in ([], ["--map-root-user"]):
        command = ["unshare", *own_user, *_PRIVATE]
        trial = [*command, "mount", "-t", "tmpfs", "none", "/tmp"]
        if shutil.which("unshare") and not subprocess.run(trial, check=False, capture_output=True).returncode:
            return command
    return None


if __name__ == "__main__":
    sys.exit(main())
