# Makes .venv at the repository's root; sourced by tools/demo and tools/test, from the root.
# Knows where Python is and what to install. PYTHON=... names a Python; pip's own settings (PIP_INDEX_URL ...) hold.
# shellcheck shell=bash

NEEDED_GB=5 # with all that the tests need 3.8; an unfinished install must not fill the disk

say() { echo "$*" >&2; }

fail() { # MESSAGE HINT
    say "error: $1; $2"
    exit 1
}

# Whether a Python starts (a version manager's shim may not), is new enough and can make environments.
is_good_python() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    # The version that CI runs comes first: tools/constraints.txt was made with it.
    local candidates=(python3.11 python3.12 python3.13 python3) candidate found=""
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if is_good_python "$candidate"; then
            echo "$candidate"
            return
        fi
        found+="${found:+, }$candidate: $("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo no)"
    done
    fail "Python 3.11 or newer with its venv module is missing ($found)" "install one, or name one with PYTHON=/path/to/python3"
}

# A copied or moved .venv still starts, but its scripts run or look for the old one.
is_venv_whole() {
    is_good_python .venv/bin/python && [[ "$(.venv/bin/pip --version 2>/dev/null)" == *" from $(pwd -P)/.venv/"* ]]
}

check_disk() {
    local free_kb
    free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "$free_kb" -ge $((NEEDED_GB * 1024 * 1024)) ] ||
        fail "$((free_kb / 1024)) MB of disk are free here, and the environment needs about $NEEDED_GB GB" "make room, or move the repository"
}

install() { # WHAT ARGUMENTS...
    say "installing $1 ..."
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -c tools/constraints.txt "${@:2}" ||
        fail "pip could not install $1 (its words stand above)" "check the network and pip's index, then run this again; rm -r .venv starts afresh"
}

# make_environment [dev]: do nothing if the stamp says that the install was finished with these very files.
make_environment() {
    local extra="${1:-}" stamp python
    stamp=$(cat pyproject.toml tools/constraints.txt | cksum)
    if is_venv_whole && [ "$(cat ".venv/installed${extra:+-$extra}" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    check_disk
    if ! is_venv_whole; then
        python=$(find_python)
        say "making .venv with $python ..."
        "$python" -m venv --clear .venv || fail "$python could not make .venv" "rm -r .venv, then run this again"
    fi
    rm -f .venv/installed .venv/installed-dev
    install torch torch
    install "vlmmerge and what it needs" -e ".${extra:+[$extra]}"
    echo "$stamp" >.venv/installed
    [ -z "$extra" ] || echo "$stamp" >".venv/installed-$extra"
}
