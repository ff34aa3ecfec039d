# Sourced by the other scripts: the project's virtual environment, created once and updated when its inputs change.
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

pip_install() {
    # --no-compile: Python compiles what is imported, and most of what is installed never is.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        --use-pep517 --constraint "$root/constraints.txt" "$@"
}

# The default build of PyTorch for Linux brings CUDA, 3 GB or more. Its CPU builds have a separate index: PyTorch's
# installation page, https://pytorch.org/get-started/locally/
install_torch() {
    if [ -e /proc/driver/nvidia/version ]; then
        echo "  an NVIDIA driver is installed: installing PyTorch with CUDA, 3 GB more"
        return
    fi
    pip_install --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu torch torchvision
    if "$venv/bin/python" -m pip show torch | grep nvidia- >/dev/null; then
        echo "  the CPU build of PyTorch is not available: installing PyTorch with CUDA, 3 GB more"
    fi
}

# install EXTRAS DOWNLOAD: the project in editable mode with these extras, unless that was done already. DOWNLOAD says how
# much is downloaded.
install() {
    local extras=$1 download=$2 stamp="$venv/.edlab-$1" started=$SECONDS python
    if [ -e "$stamp" ] && [ "$stamp" -nt "$root/pyproject.toml" ] && [ "$stamp" -nt "$root/constraints.txt" ]; then
        return
    fi
    echo "installing edlab[$extras] in $venv: the download is about $download, without packages that pip has in its cache"
    if [ ! -x "$venv/bin/python" ]; then
        python=$(find_python)
        "$python" -m venv "$venv"
    fi
    if ! "$venv/bin/python" -m pip show torch >/dev/null 2>&1; then
        install_torch
    fi
    pip_install --editable "$root[$extras]"
    touch "$stamp"
    echo "installed in $((SECONDS - started)) s; $venv uses $(du -sh "$venv" | cut -f1)"
}
