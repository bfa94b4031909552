#!/bin/sh
# Puts Kafka's jars into .kafka/libs, once. Needs Java 17 or newer and Maven: installs both where it may (root on a
# Debian), else says what is missing.
set -eu
cd "$(dirname "$0")/.."
[ -f .kafka/ready ] && [ .kafka/ready -nt devbroker/pom.xml ] && command -v java >/dev/null 2>&1 && exit 0

missing=""
command -v java >/dev/null 2>&1 || missing="openjdk-17-jre-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing$([ -n "${missing# }" ] && echo " $missing") for the Kafka broker of the tests"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing; } \
            >/dev/null
    else
        echo "bohdi: the Kafka broker of the tests needs $missing: install it (Debian: apt-get install $missing)" >&2
        exit 1
    fi
fi
version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
if [ "${version:-0}" -lt 17 ]; then
    echo "bohdi: Java $version is too old for a Kafka broker: install 17 or newer" >&2
    exit 1
fi

mkdir -p .kafka
(
    # Two that start at once: one fetches, the other waits and finds it done.
    flock 9
    if [ ! -f .kafka/ready ] || [ devbroker/pom.xml -nt .kafka/ready ]; then
        echo "fetching Kafka's jars (43 MB) into .kafka/"
        rm -rf .kafka/libs
        if ! mvn -q -B -Dstyle.color=never -f devbroker/pom.xml dependency:copy-dependencies \
            -DoutputDirectory="$PWD/.kafka/libs" >.kafka/mvn.log 2>&1; then
            echo "bohdi: Kafka's jars could not be fetched: see .kafka/mvn.log, mend the network or Maven's settings" >&2
            exit 1
        fi
        touch .kafka/ready
    fi
) 9>.kafka/lock
