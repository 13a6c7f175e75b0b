#!/bin/sh
# Builds .venv/ from the hashed locks:  ./mkenv.sh runtime  or  ./mkenv.sh dev (the runtime and the test tools).
# With TELL set, it also says so when there is nothing to do.
# Uses uv when there is one, else venv and pip, so that a fresh Debian with python3 alone will do.
set -eu
cd "$(dirname "$0")"
stop() { echo "mkenv.sh: $1" >&2; exit 1; }

case ${1:-} in
    runtime) lock=requirements.txt ;;
    dev) lock=requirements-dev.txt ;;
    *) stop "say what to build: ./mkenv.sh runtime, or ./mkenv.sh dev" ;;
esac

# The base interpreter, because an activated .venv must not be asked to rebuild itself.
python=$("${PYTHON:-python3}" -c 'import sys; print(sys._base_executable if sys.version_info >= (3, 11) else "")') || python=
test "$python" || stop "Python 3.11 or newer is needed, and ${PYTHON:-python3} is missing or older."

# What makes an old .venv unusable: other locks, another Python, another folder (scripts hold its path).
state=$({ cat requirements.txt requirements-dev.txt; "$python" -V; pwd; } | cksum)
built=$(cat .venv/.built 2>/dev/null && .venv/bin/python -V >/dev/null 2>&1) || built=
case $built in
    "dev $state" | "$1 $state")
        test -z "${TELL:-}" || echo ".venv/ is up to date."
        exit 0
        ;;
    "runtime $state") clear= ;;  # dev only adds to this one
    *) clear=--clear ;;
esac

if uv --version >/dev/null 2>&1; then
    installer="uv pip install -q --python .venv/bin/python --link-mode copy"
    test -z "$clear" || uv venv -q --clear --python "$python" .venv
else
    installer=".venv/bin/python -m pip install -q -q --disable-pip-version-check"
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        test "$(id -u)" = 0 && command -v apt-get >/dev/null ||
            stop "this Python cannot make environments; install the package python3-venv, then try again."
        echo "Installing python3-venv first, which this Python lacks ..."
        apt-get -q -q update
        DEBIAN_FRONTEND=noninteractive apt-get -q -q install -y --no-install-recommends python3-venv >/dev/null
    fi
    # A .venv that uv began holds no pip, so this cannot add to it.
    test -z "$clear" && .venv/bin/python -c 'import pip' 2>/dev/null || "$python" -m venv --clear .venv
fi
rm -f .venv/.built
count=$(grep -c '^[a-z0-9].*==' "$lock")
echo "Building .venv/: downloading $count packages, each checked against its hash in $lock."
echo "This takes a minute or two and 230 MB on the disk the first time; nothing outside this folder is changed."
started=$(date +%s)
# Wheels only: a source package fetches build tools that no lock pins. dkimpy is published as source alone.
$installer --require-hashes --only-binary :all: --no-binary dkimpy -r "$lock"
echo "$1 $state" > .venv/.built
echo "Built .venv/ in $(($(date +%s) - started)) seconds."
