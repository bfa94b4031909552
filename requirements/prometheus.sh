#!/bin/sh
# Puts prometheus and promtool into .prometheus/, once: Debian's package, unpacked and not installed. Needs apt-get and
# dpkg-deb, and root only where the lists of packages are missing; else a prometheus and a promtool on the PATH will do.
set -eu
cd "$(dirname "$0")/.."
[ -x .prometheus/promtool ] && [ -x .prometheus/prometheus ] && exit 0
mkdir -p .prometheus
if command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1; then
    ln -sf "$(command -v promtool)" .prometheus/promtool
    ln -sf "$(command -v prometheus)" .prometheus/prometheus
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "bohdi: the tests of alerts need prometheus and promtool: install them (2.42 or newer), or put them on the PATH" >&2
    exit 1
fi
(
    # Two that start at once: one fetches, the other waits and finds it done.
    flock 9
    [ -x .prometheus/promtool ] && [ -x .prometheus/prometheus ] && exit 0
    echo "fetching Prometheus (19 MB) into .prometheus/"
    cd .prometheus
    if ! apt-get download -q prometheus >apt.log 2>&1; then
        { apt-get update -q && apt-get download -q prometheus; } >apt.log 2>&1 || {
            echo "bohdi: Prometheus could not be fetched: see .prometheus/apt.log, or put prometheus and promtool on the PATH" >&2
            exit 1
        }
    fi
    dpkg-deb -x prometheus_*.deb unpacked
    mv unpacked/usr/bin/prometheus unpacked/usr/bin/promtool .
    rm -rf unpacked prometheus_*.deb
) 9>.prometheus/lock
