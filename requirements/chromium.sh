#!/bin/sh
# Puts a headless Chromium where the tests of the report find it, .chromium/chromium: one on the PATH, else Debian's
# package, installed (as root, by apt-get).
set -eu
cd "$(dirname "$0")/.."
[ -x .chromium/chromium ] && exit 0
mkdir -p .chromium
(
    # Two that start at once: one installs, the other waits and finds it done.
    flock 9
    [ -x .chromium/chromium ] && exit 0
    if ! command -v chromium >/dev/null 2>&1; then
        if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
            echo "bohdi: the tests of the report need Chromium: install it, so that chromium is on the PATH" >&2
            exit 1
        fi
        echo "installing Chromium (Debian's package, 120 MB)"
        install="apt-get -o DPkg::Lock::Timeout=600 install -q -y --no-install-recommends chromium"
        export DEBIAN_FRONTEND=noninteractive
        if ! $install >.chromium/apt.log 2>&1; then
            { apt-get -o DPkg::Lock::Timeout=600 update -q && $install; } >.chromium/apt.log 2>&1 || {
                echo "bohdi: Chromium could not be installed: see .chromium/apt.log, or put chromium on the PATH" >&2
                exit 1
            }
        fi
    fi
    ln -sf "$(command -v chromium)" .chromium/chromium
) 9>.chromium/lock
