#!/bin/sh
# Makes sure the browser tests can run, where this machine lets us. Where it does not, they are skipped, which is
# fine on a laptop and a failure in CI.
set -u
cd "$(dirname "$0")/.."

has_browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null && return 0
    done
    return 1
}

# Playwright brings a Node.js of its own, and that needs a library (libatomic1) that a small Debian lacks.
has_driver() {
    test ! -x .venv/bin/playwright || .venv/bin/playwright --version >/dev/null 2>&1
}

has_browser && has_driver && exit 0

why="the packages chromium and libatomic1 are needed, and only root on Debian can install them from here"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium for the browser tests with apt-get, which takes a minute or so ..."
    log=$(mktemp)
    # Another apt-get may be at work: wait for its lock rather than give up.
    {
        apt-get -q -q -o DPkg::Lock::Timeout=300 update
        DEBIAN_FRONTEND=noninteractive apt-get -q -q -o DPkg::Lock::Timeout=300 \
            install -y --no-install-recommends chromium libatomic1
    } >"$log" 2>&1
    has_browser && has_driver && rm -f "$log" && exit 0
    tail -n 5 "$log" >&2
    rm -f "$log"
    why="apt-get could not install the packages chromium and libatomic1"
fi

echo "The browser tests cannot run: $why." >&2
test "${CI:-}" != true
