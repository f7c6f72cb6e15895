# Sets up the repository's own virtual environment; sourced by the scripts beside it.
# After `use_environment`, $python is its interpreter.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '%s\n' "$*" >&2; }

# The newest Python of 3.11 or later by any of its usual names.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    say "peakvram needs Python 3.11 or later, and finds none as python3 or python3.11 to python3.14."
    return 1
}

# What decides whether an installation is still the right one: how it is built, and what was asked for.
fingerprint() {
    local sources=("$root/pyproject.toml" "$root/hatch_build.py")
    [ ! -d "$root/profiler/virtual" ] || while IFS= read -r source; do sources+=("$source"); done < <(
        find "$root/profiler/virtual" -name '*.[ch]' -o -name '*.txt' -o -path "$root/profiler/virtual/build.py" | LC_ALL=C sort
    )
    { printf '%s\n' "$root" "$1"; cat "${sources[@]}"; } | cksum
}

# use_environment EXTRAS: makes .venv if it is missing, and installs peakvram[EXTRAS] if what is there is not
# this. An installation with the extras of `dev` serves one that asks for none.
use_environment() {
    local extras="$1" wanted stamp="$root/.venv/.peakvram"
    if ! "$root/.venv/bin/python" -c 'import pip' 2>/dev/null; then
        local base
        base="$(find_python)"
        say "Making a virtual environment in .venv ..."
        "$base" -m venv --clear "$root/.venv" || {
            say "Python could not make it. On Debian and Ubuntu: apt install python3-venv"
            return 1
        }
    fi
    python="$root/.venv/bin/python"
    wanted="$(fingerprint dev)"
    if [ -n "$extras" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then wanted="$(fingerprint "$extras")"; fi
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "Installing peakvram and what it needs into .venv. The CUDA build of PyTorch is a download of about 3 GB:"
    say "the first time takes some minutes."
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$root${extras:+[$extras]}" >&2
    printf '%s\n' "$wanted" >"$stamp"
}
