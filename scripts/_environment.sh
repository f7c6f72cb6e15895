# Sets up the repository's own virtual environments; sourced by the scripts beside it.
# After `use_environment`, $python is the interpreter of the one it was asked for.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
lock=requirements.lock
python_name=""

say() { printf '%s\n' "$*" >&2; }

# Python 3.11, which is the one that is tested most, else a later one by any of its usual names.
# $python_name names another.
find_python() {
    local name
    for name in ${python_name:-python3.11 python3 python3.14 python3.13 python3.12}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    say "peakvram needs Python 3.11 or later, and finds none as ${python_name:-python3 or python3.11 to python3.14}."
    return 1
}

# fingerprint EXTRAS [CONSTRAINTS]: what decides whether an installation is still the right one: how it is built,
# what was asked for, and which versions.
fingerprint() {
    local sources=("$root/pyproject.toml" "$root/hatch_build.py" "${2:-$root/$lock}")
    [ ! -d "$root/profiler/virtual" ] || while IFS= read -r source; do sources+=("$source"); done < <(
        find "$root/profiler/virtual" -name '*.[ch]' -o -name '*.txt' -o -path "$root/profiler/virtual/build.py" | LC_ALL=C sort
    )
    { printf '%s\n' "$root" "$1"; cat "${sources[@]}"; } | cksum
}

# make_environment DIRECTORY: a virtual environment there, if there is none; sets $python.
make_environment() {
    local base
    python="$1/bin/python"
    if ! "$python" -c 'import pip' 2>/dev/null; then
        base="$(find_python)"
        say "Making a virtual environment in ${1##*/} ..."
        "$base" -m venv --clear "$1" || {
            say "Python could not make it. On Debian and Ubuntu: apt install python3-venv"
            return 1
        }
    fi
}

# constrained CONSTRAINTS PIP-ARGUMENT...: pip, held to the versions of a file; what it builds with, too. Both
# variables are lists separated by blanks, so the file's path is relative: the repository's own may have some.
constrained() {
    local file="${1#"$root/"}" build="PIP_BUILD_CONSTRAINT"
    shift
    (cd "$root" && env "PIP_CONSTRAINT=$file${PIP_CONSTRAINT:+ $PIP_CONSTRAINT}" "$build=$file" \
        "$python" -m pip --disable-pip-version-check "$@") >&2
}

# use_environment EXTRAS [DIRECTORY CONSTRAINTS]: makes the environment if it is missing (.venv, of the locked
# versions), and installs peakvram[EXTRAS] if what is there is not this. An installation with the extras of `dev`
# serves one that asks for none.
use_environment() {
    local extras="$1" directory="${2:-$root/.venv}" constraints="${3:-$root/$lock}" wanted stamp
    stamp="$directory/.peakvram"
    make_environment "$directory"
    wanted="$(fingerprint dev "$constraints")"
    if [ -n "$extras" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        wanted="$(fingerprint "$extras" "$constraints")"
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "Installing peakvram and what it needs into ${directory##*/}. The CUDA build of PyTorch is a download of"
    say "about 3 GB: the first time takes some minutes."
    constrained "$constraints" install --quiet --editable "$root${extras:+[$extras]}"
    printf '%s\n' "$wanted" >"$stamp"
}

# use_versions [SET]: an environment to run tests in with the oldest or newest versions, or those of a file; without
# a name with the locked ones, for another Python.
use_versions() {
    local directory="$root/.venv-test" constraints
    case "${1:-}" in
        oldest | newest) directory="$root/.venv-$1" ;;
        ?*) directory+="-$(basename "${1%.*}")" ;;
    esac
    directory+="${python_name:+-$(basename "$python_name")}"
    make_environment "$directory"
    constraints="$directory/constraints.txt"
    case "${1:-}" in
        "") cp "$root/$lock" "$constraints" ;;
        oldest) "$python" "$root/scripts/lock.py" --oldest >"$constraints" ;;
        newest) : >"$constraints" && rm -f "$directory/.peakvram" ;;
        *) cp "$1" "$constraints" ;;
    esac
    use_environment test "$directory" "$constraints"
}
