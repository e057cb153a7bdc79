# Sourced by ./try and ./check: finds Python and Rust, and makes virtual environments on machines that lack what that needs.
# shellcheck shell=sh

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# A Python of at least 3.11; $PYTHON comes first.
find_python() {
    for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$candidate")
            return
        fi
    done
    die "Python 3.11 or later is needed (or say PYTHON=/path/to/python3)"
}

find_rust() {
    command -v cargo >/dev/null 2>&1 || PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null 2>&1 || die "a Rust toolchain is needed (cargo 1.88 or later): Debian has rustup, and its site an installer"
    command -v cc >/dev/null 2>&1 || tools/install.sh build || die "Rust needs a C linker"
}

# make_venv DIRECTORY: by venv; else by virtualenv; else by a virtualenv that pip puts aside; else says what is missing.
make_venv() {
    if [ -x "$1/bin/python" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    rm -rf "$1"
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null && [ "$(id -u)" = 0 ]; then
        tools/install.sh venv || true
    fi
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv "$1"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv -q "$1"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip install -q --target "$1.virtualenv" virtualenv
        PYTHONPATH="$1.virtualenv" "$python" -m virtualenv -q "$1"
        rm -rf "$1.virtualenv"
    else
        tools/install.sh venv || true
        die "$python has neither venv nor pip (on Debian: apt-get install python3-venv)"
    fi
}
