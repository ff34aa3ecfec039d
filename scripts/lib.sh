# Sourced by the scripts beside it: the project's own virtual environment, made once and brought up to date when
# what it is made from changes.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${EDLAB_VENV:-$root/.venv}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "edlab needs Python 3.11 or later; set PYTHON to its interpreter" >&2
    return 1
}

# install EXTRAS: the project in editable mode with these extras, unless that was done already.
install() {
    local extras=$1 stamp="$venv/.edlab-$1" python
    if [ ! -x "$venv/bin/python" ]; then
        python=$(find_python)
        "$python" -m venv "$venv"
    fi
    if [ ! -e "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ] || [ "$root/constraints.txt" -nt "$stamp" ]; then
        echo "installing edlab[$extras] into $venv (some minutes the first time)"
        # Not compiled: Python compiles what is imported, and most of what is installed never is.
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
            --constraint "$root/constraints.txt" --editable "$root[$extras]"
        touch "$stamp"
    fi
}
