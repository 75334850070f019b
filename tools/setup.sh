#!/bin/sh
# Makes what the project runs in. Safe to run again: a second run does nothing and takes no time.
#
#   tools/setup.sh             the virtual environment .venv, from requirements.lock
#   tools/setup.sh --programs  the programs that the tests start (Debian packages, and npm packages)
#
# As root on Debian, missing packages are installed; otherwise they are named and the script ends with 1.
# PYTHON=python3.12 chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Installs Debian packages, or says which ones are missing.
need_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        fail "missing Debian packages: $*. Install them (sudo apt-get install $*), then run this again."
    fi
    say "installing Debian packages: $*"
    # A package must not start its service here (mosquitto would take port 1883), nor PostgreSQL make a database.
    made=""
    trap 'rm -f $made' EXIT
    trap 'exit 130' INT TERM
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        made="$policy"
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    clusters=/etc/postgresql-common/createcluster.d
    made="$made $clusters/gnomon.conf"
    mkdir -p "$clusters"
    printf 'create_main_cluster = false\n' >"$clusters/gnomon.conf"
    export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes
    apt-get -qq update >/dev/null || say "apt-get update failed; trying with the lists that are here"
    apt-get -qq install -y --no-install-recommends "$@" >/dev/null || fail "apt-get could not install: $*"
}

# Prints the version if the interpreter runs and the project supports it, else nothing.
supported_version() {
    "$1" -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) and print("%d.%d" % v)' 2>/dev/null || true
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if [ -n "$(supported_version "$candidate")" ]; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11, 3.12 or 3.13${PYTHON:+ (PYTHON=$PYTHON is none of them)}"
}

make_environment() {
    python="$(find_python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need_packages "python$(supported_version "$python")-venv"
    say "making .venv with Python $(supported_version "$python")"
    "$python" -m venv --clear .venv || fail "could not make .venv with $python"
}

set_up_environment() {
    present="$(supported_version .venv/bin/python)"
    if [ -z "$present" ] || [ "$present" != "$(supported_version "${PYTHON:-.venv/bin/python}")" ]; then
        make_environment
    fi
    # What is installed depends on these; an editable install also on where it lies.
    wanted="$(pwd) $(cat requirements.lock pyproject.toml | sha256sum)"
    if [ -f .venv/setup.stamp ] && [ "$(cat .venv/setup.stamp)" = "$wanted" ]; then
        return
    fi
    say "installing the locked dependencies (about a minute)"
    pip="env PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip --quiet --no-input install"
    $pip --require-hashes --requirement requirements.lock || fail "pip could not install requirements.lock"
    $pip --no-deps --no-build-isolation --editable . || fail "pip could not install the project"
    printf '%s\n' "$wanted" >.venv/setup.stamp
    say "done"
}

set_up_programs() {
    PATH="$PATH:/usr/sbin:/sbin" # mosquitto lives there, and not everybody's PATH does
    missing=""
    command -v mosquitto >/dev/null 2>&1 || missing="$missing mosquitto"
    command -v mosquitto_pub >/dev/null 2>&1 || missing="$missing mosquitto-clients"
    command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
    command -v gcc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
    command -v node >/dev/null 2>&1 || missing="$missing nodejs"
    command -v npm >/dev/null 2>&1 || missing="$missing npm"
    # Debian keeps the programs of a PostgreSQL server out of the PATH.
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 ||
        missing="$missing postgresql"
    # shellcheck disable=SC2086  # a list of words
    [ -z "$missing" ] || need_packages $missing
    set_up_npm_packages tests/integration/mqttjs
    set_up_npm_packages tests/integration/aws-sdk-js
}

# Clients that the tests steer: tests/mqttjs_peer.py, tests/node_process.py.
set_up_npm_packages() (
    cd "$1"
    wanted="$(sha256sum package-lock.json)"
    if [ -f node_modules/setup.stamp ] && [ "$(cat node_modules/setup.stamp)" = "$wanted" ]; then
        return
    fi
    say "installing the locked npm packages of $1"
    npm ci --silent --ignore-scripts --no-audit --no-fund || fail "npm could not install $1"
    printf '%s\n' "$wanted" >node_modules/setup.stamp
)

case "${1:-}" in
"") set_up_environment ;;
--programs) set_up_programs ;;
*) fail "usage: tools/setup.sh [--programs]" ;;
esac
