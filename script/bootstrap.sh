# Sourced by script/server, script/test and .ci/run, from the root of the checkout:
# finds a Python and keeps the virtual environment as the requirements say.

# Where the virtual environment is.
KEEPTRUSTS_VENV=${KEEPTRUSTS_VENV:-.venv}
venv_python=$KEEPTRUSTS_VENV/bin/python

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Leave in $python a Python >= 3.12 that can make a virtual environment. A name on the PATH proves nothing
# (a shim may have no version behind it), so each candidate is asked.
find_python() {
    for python in ${KEEPTRUSTS_PYTHON:+"$KEEPTRUSTS_PYTHON"} \
        python3.13 python3.12 python3.14 python3 python \
        "$HOME"/.pyenv/versions/3.13*/bin/python \
        "$HOME"/.pyenv/versions/3.12*/bin/python \
        "$HOME"/.pyenv/versions/3.1[4-9]*/bin/python; do
        python_serves "$python" && return
    done
    if command -v uv >/dev/null 2>&1; then
        python=$(uv python find '>=3.12' 2>/dev/null) && python_serves "$python" && return
        say "No Python >= 3.12 here yet: uv fetches one..."
        uv python install 3.13 && python=$(uv python find 3.13) && python_serves "$python" && return
    fi
    fail "Keeptrusts needs Python 3.12 or newer (with venv, ssl and sqlite3), and found none: not on the PATH, not in
~/.pyenv/versions, and uv, which could fetch one, $(command -v uv >/dev/null 2>&1 && echo failed || echo is not installed).
Install one (Debian 13, Ubuntu 24.04: apt-get install python3-venv; pyenv: pyenv install 3.13), or name it:
KEEPTRUSTS_PYTHON=/path/to/python3 $0"
}

python_serves() {
    "$1" -c 'import sys, ensurepip, sqlite3, ssl, venv
sys.exit(sys.version_info < (3, 12) or sys.version_info.releaselevel != "final")' >/dev/null 2>&1
}

# Leave $venv_python ready with what $1 (a requirements file) pins; installs only if a requirements file has changed.
ensure_environment() {
    stamp=$KEEPTRUSTS_VENV/keeptrusts-requirements
    pinned=$(cat requirements.txt requirements-dev.txt | cksum)
    if ! "$venv_python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        find_python
        say "Making the virtual environment $KEEPTRUSTS_VENV with $("$python" --version)..."
        "$python" -m venv --clear "$KEEPTRUSTS_VENV"
    fi
    # The first line names the state of both files together, the others those that are installed in that state.
    if [ "$(head -n 1 "$stamp" 2>/dev/null)" != "$pinned" ]; then
        say "$pinned" >"$stamp"
    fi
    # What checks and tests need includes what the console needs.
    if ! grep -qx -e "$1" -e requirements-dev.txt "$stamp"; then
        install_requirements "$1"
        say "$1" >>"$stamp"
    fi
}

install_requirements() {
    total=$(grep -c '^[A-Za-z0-9].*==' "$1" || true)
    say "Installing $total packages from $1..."
    log=$KEEPTRUSTS_VENV/pip.log
    "$venv_python" -c 'import pip' 2>/dev/null || "$venv_python" -m ensurepip >/dev/null
    {
        "$venv_python" -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r "$1" 2>&1 || echo FAILED
    } | tee "$log" | show_progress "$total"
    if grep -qx FAILED "$log"; then
        tail -n 15 "$log" >&2
        fail "The packages of $1 could not be installed; pip says why above. All of its words: $log"
    fi
}

# On a terminal one line that counts, elsewhere a line now and then.
show_progress() {
    [ -t 1 ] && tty=1 || tty=0
    awk -v total="$1" -v tty="$tty" '
        /^(Collecting|Requirement already satisfied:)/ { count++; name = $0; sub(/^[^:]*: */, "", name); sub(/^Collecting /, "", name); sub(/[ ;<>=!~\[(].*/, "", name) }
        /^(Collecting|Requirement already satisfied:)/ && tty { printf "\r  %d of %d  %-40s", count, total, name; fflush() }
        /^(Collecting|Requirement already satisfied:)/ && !tty && count % 20 == 0 { printf "  %d of %d\n", count, total; fflush() }
        /^Installing collected/ { printf (tty ? "\r  unpacking %-40s" : "  unpacking%s\n"), "..."; fflush() }
        END { if (tty) printf "\r%60s\r", "" }'
}
