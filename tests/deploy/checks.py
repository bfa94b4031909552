"""What must agree between the objects that are applied, and between them and the code. Each check is pure: it takes the
objects of one rendering and gives a line for each complaint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bohdi_common.events.topics import TOPICS
from bohdi_common.log.kafka_settings import BadSetting
from bohdi_common.runtime import faust_host, kafka_manager
from bohdi_common.runtime.service_settings import ServiceSettings
from tests.deploy import code_facts
from tests.deploy.pods import Pod, name_of, of_kind, pods, selects, title
from tests.deploy.rendered import ROOT, Object, Objects

# Variables of libraries and of other people's images, which no code of ours reads.
_OTHERS = {
    "HOME", "USER", "PYTHONPATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "LOG_DIR", "KAFKA_HEAP_OPTS",
}  # fmt: skip
_OURS = "bohdi-"  # how the images begin that are built here
_KAFKA = "BOHDI_KAFKA"
_STORE_WRITERS = {"bandit", "training", "run", "trainjob"}
# The bandit looks up what it has asked already, and which dead letters it has written (runtime/kafka_manager.py).
_READS_BESIDE = {"bandit": {"bohdi.sprout.requests", "bohdi.harvest.requests", "bohdi.training.requests", "bohdi.dead"}}
_IN_NO_GROUP = {"bandit"}
# Prometheus' own, and vLLM's that are used here.
_FOREIGN_METRICS = {"up", "ALERTS", "vllm:num_requests_waiting", "vllm:num_requests_running"}
_LABELS_OF = r"\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)"
_NO_METRIC = re.compile(rf'"(\\.|[^"])*"|\{{[^}}]*\}}|\[[^]]*\]|{_LABELS_OF}')
_WORD = re.compile(r"(?<![\w.:])[A-Za-z_:][\w:]*(?!\w*\s*\()")
_KEYWORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}


# ---- what belongs together ---------------------------------------------------------------------------------------


def selectors(objects: Objects) -> list[str]:
    """Selectors that take no pod, or not their own."""
    there, found = pods(objects), []
    for it in of_kind(objects, "Deployment", "StatefulSet"):
        if not selects(it["spec"]["selector"], it["spec"]["template"]["metadata"]["labels"]):
            found.append(f"{title(it)}: its selector does not take its own pods")
    for it in of_kind(objects, "Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
        selector = it["spec"].get("selector" if it["kind"] != "NetworkPolicy" else "podSelector")
        taken = {(pod.kind, pod.name) for pod in there if selects(selector, pod.labels)}
        if not taken and not _for_absent(it, objects):
            found.append(f"{title(it)}: selects no pod: {selector}")
        if it["kind"] in ("Service", "PodDisruptionBudget") and len(taken) > 1:
            found.append(f"{title(it)}: selects pods of several: {sorted(taken)}")
    return found


def _for_absent(it: Object, objects: Objects) -> bool:
    """Model servers may be elsewhere, and then their scrape has nothing to do."""
    servers = [pod for pod in pods(objects) if pod.labels.get("bohdi-role") == "model-server"]
    return title(it) == "PodMonitor/vllm" and not servers


def references(objects: Objects) -> list[str]:
    """Names of objects that are not there."""
    there = {title(it) for it in objects}
    found = [
        f"{pod.kind}/{pod.name}: there is no {wanted}"
        for pod in pods(objects)
        for wanted in _wanted(pod)
        if wanted not in there | _made_by_operators(objects)
    ]
    for it in of_kind(objects, "ScaledObject"):
        target = it["spec"]["scaleTargetRef"]
        if f"{target.get('kind', 'Deployment')}/{target['name']}" not in there:
            found.append(f"{title(it)}: there is no {target['name']}")
    for it in of_kind(objects, "RoleBinding"):
        names = [f"{it['roleRef']['kind']}/{it['roleRef']['name']}"]
        names += [f"{subject['kind']}/{subject['name']}" for subject in it["subjects"]]
        found += [f"{title(it)}: there is no {name}" for name in names if name not in there]
    return found


def _made_by_operators(objects: Objects) -> set[str]:
    secrets = {f"Secret/{name_of(user)}" for user in of_kind(objects, "KafkaUser")}
    return secrets | {f"Secret/{name_of(kafka)}-cluster-ca-cert" for kafka in of_kind(objects, "Kafka")}


def _wanted(pod: Pod) -> Iterator[str]:
    if "serviceAccountName" in pod.spec:
        yield f"ServiceAccount/{pod.spec['serviceAccountName']}"
    for volume in pod.spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}"
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield f"ConfigMap/{source['configMap']['name']}"
            if "secret" in source and not source["secret"].get("optional"):
                yield f"Secret/{source['secret'].get('name') or source['secret']['secretName']}"
    for container in pod.containers:
        for source in container.get("envFrom", []):
            for kind, ref in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if ref in source and not source[ref].get("optional"):
                    yield f"{kind}/{source[ref]['name']}"
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield from (f"volume {name}" for name in mounted - {volume["name"] for volume in pod.spec.get("volumes", [])})


# ---- ports -------------------------------------------------------------------------------------------------------


def ports(objects: Objects) -> list[str]:
    """Ports of Services, probes, scrapes, policies and addresses that nobody listens on."""
    found = []
    there = pods(objects)
    for it in of_kind(objects, "Service"):
        taken = [pod for pod in there if selects(it["spec"]["selector"], pod.labels)]
        for port in it["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if not all(pod.port(target) for pod in taken):
                found.append(f"{title(it)}: no pod listens on {target}")
            if it["spec"].get("clusterIP") == "None" and any(pod.port(target) != port["port"] for pod in taken):
                found.append(f"{title(it)}: has no address of its own, so {port['port']} must be the pods' own port")
    for it in of_kind(objects, "PodMonitor"):
        for pod in (pod for pod in there if selects(it["spec"]["selector"], pod.labels)):
            for endpoint in it["spec"]["podMetricsEndpoints"]:
                if pod.port(endpoint["port"]) is None:
                    found.append(f"{title(it)}: {pod.name} has no port {endpoint['port']}")
    return found + [line for pod in there for line in _own_ports(pod, objects)] + list(_policy_ports(objects))


def _own_ports(pod: Pod, objects: Objects) -> Iterator[str]:
    where = f"{pod.kind}/{pod.name}"
    for container in pod.containers:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for told in container.get(probe, {}).values():
                if isinstance(told, dict) and "port" in told and pod.port(told["port"]) is None:
                    yield f"{where}: {probe}: no container has the port {told['port']}"
        settings = _environment(container, objects)
        if (health := settings.get("BOHDI_HEALTH", "").rpartition(":")[2]) and pod.port("health") not in (
            None,
            int(health),
        ):
            yield f"{where}: the port health is {pod.port('health')}, and BOHDI_HEALTH says {health}"
        for address in filter(None, settings.get(_KAFKA, "").split(",")):
            if address not in addresses(objects):
                yield f"{where}: {_KAFKA}: nobody is at {address}"


def addresses(objects: Objects) -> set[str]:
    """Every NAME:PORT of a Service, and of the one that Strimzi makes for a cluster."""
    found = {f"{name_of(it)}:{port['port']}" for it in of_kind(objects, "Service") for port in it["spec"]["ports"]}
    return found | {
        f"{name_of(kafka)}-kafka-bootstrap:{listener['port']}"
        for kafka in of_kind(objects, "Kafka")
        for listener in kafka["spec"]["kafka"]["listeners"]
    }


def _policy_ports(objects: Objects) -> Iterator[str]:
    for policy in of_kind(objects, "NetworkPolicy"):
        taken = [pod for pod in pods(objects) if selects(policy["spec"]["podSelector"], pod.labels)]
        for rule in policy["spec"].get("ingress") or []:
            for port in rule.get("ports", []):
                if any(pod.port(port["port"]) is None for pod in taken):
                    yield f"{title(policy)}: lets in to {port['port']}, on which nobody listens"


# ---- what the code reads -----------------------------------------------------------------------------------------


def environment(objects: Objects, read: set[str]) -> list[str]:
    """Variables that nobody reads: neither the code, nor a library, nor the command; and values that it refuses."""
    found = []
    told: dict[str, list[str]] = {}
    for pod in pods(objects):
        for container in pod.containers:
            settings = _environment(container, objects)
            line = " ".join(map(str, [*container.get("command", []), *container.get("args", [])]))
            for name in settings:
                told.setdefault(name, []).append(line)
            if "services." in line:
                found += [f"{pod.kind}/{pod.name}: {why}" for why in _refused(settings)]
    unread = {
        name for name, lines in told.items()
        if name not in read | _OTHERS and not any(re.search(rf"\$[({{]?{name}\b", line) for line in lines)
    }  # fmt: skip
    return found + [f"{name}: no configuration and no command reads this variable" for name in sorted(unread)]


def _environment(container: Object, objects: Objects) -> dict[str, str]:
    maps = {name_of(it): it.get("data", {}) for it in of_kind(objects, "ConfigMap")}
    settings: dict[str, str] = {}
    for source in container.get("envFrom", []):
        settings |= maps.get(source.get("configMapRef", {}).get("name", ""), {})
    return settings | {entry["name"]: str(entry.get("value", "")) for entry in container.get("env", [])}


def _refused(settings: dict[str, str]) -> Iterator[str]:
    try:
        ServiceSettings.from_environment(1, settings)
    except BadSetting as error:
        yield str(error)


def commands(objects: Objects) -> list[str]:
    """Services that are started by a module that is not there, or allow themselves more time to end than they get."""
    found = []
    longest_s = max(faust_host._END_S, kafka_manager._END_S)
    for pod in pods(objects):
        for container in pod.spec["containers"]:
            module = next((part for part in container.get("command", []) if part.startswith("services.")), None)
            if module is None:
                continue
            if not (ROOT / module.replace(".", "/") / "__main__.py").is_file():
                found.append(f"{pod.kind}/{pod.name}: there is no module {module}")
            if pod.spec.get("terminationGracePeriodSeconds", 30) <= longest_s:
                found.append(f"{pod.kind}/{pod.name}: is killed before it has ended by itself, {longest_s:.0f} s")
            health = [container.get(f"{probe}Probe", {}).get("httpGet", {}).get("path")
                      for probe in ("startup", "liveness", "readiness")]  # fmt: skip
            if health != ["/live", "/live", "/ready"]:
                found.append(f"{pod.kind}/{pod.name}: probes ask for {health}")
    return found


# ---- topics ------------------------------------------------------------------------------------------------------


def topics(objects: Objects) -> list[str]:
    """Rights on topics that the registry does not give, rights that are missing, and topics that do not exist."""
    known = {topic.name for topic in TOPICS}
    found = [f"{where}: there is no topic {name}" for where, name in _named_topics(objects) if name not in known]
    users = {name_of(user): user for user in of_kind(objects, "KafkaUser")}
    for service in code_facts.SERVICES if users else ():
        name = service.replace("_", "-")
        given = _given(users[name]) if name in users else set()
        needed = _needed(service)
        found += [f"KafkaUser/{name}: must be allowed: {' '.join(right)}" for right in sorted(needed - given)]
        found += [f"KafkaUser/{name}: need not be allowed: {' '.join(right)}" for right in sorted(given - needed)]
    return found


def _needed(service: str) -> set[tuple[str, str, str]]:
    """(operation, kind, name) by the registry. Everybody sees what topics there are, for it waits until all are."""
    needed = {("Describe", "topic", "bohdi.*")}
    for topic in TOPICS:
        if service in topic.producers:
            needed.add(("Write", "topic", topic.name))
        if service in topic.consumers or topic.name in _READS_BESIDE.get(service, ()):
            needed.add(("Read", "topic", topic.name))
    if service not in _IN_NO_GROUP:
        needed |= {(right, "group", f"bohdi.{service}") for right in ("Describe", "Read")}
    return needed


def _given(user: Object) -> set[tuple[str, str, str]]:
    return {
        (right, acl["resource"]["type"], acl["resource"]["name"] + _star(acl["resource"]))
        for acl in user["spec"]["authorization"]["acls"]
        for right in acl["operations"]
    }


def _star(resource: Object) -> str:
    return "*" if resource.get("patternType") == "prefix" else ""


def _named_topics(objects: Objects) -> Iterator[tuple[str, str]]:
    for user in of_kind(objects, "KafkaUser"):
        for acl in user["spec"]["authorization"]["acls"]:
            if acl["resource"]["type"] == "topic" and not _star(acl["resource"]):
                yield title(user), acl["resource"]["name"]
    for it in of_kind(objects, "ScaledObject"):
        for trigger in it["spec"]["triggers"]:
            if trigger["type"] == "kafka":
                yield title(it), trigger["metadata"]["topic"]
    for it in of_kind(objects, "KafkaTopic"):
        yield title(it), it["spec"].get("topicName", name_of(it))


# ---- images, rights, the store -----------------------------------------------------------------------------------


def images(objects: Objects, built: set[str], version: str) -> list[str]:
    """Images that nothing builds, of another version than the code's, or of none that stays."""
    found = []
    for pod in pods(objects):
        for container in pod.containers if not pod.by_operator else ():
            name, _, tag = container["image"].rpartition(":")
            where = f"{pod.kind}/{pod.name}: {container['image']}"
            if name.startswith(_OURS) and name not in built:
                found.append(f"{where}: skaffold.yaml builds no such image")
            elif name.startswith(_OURS) and tag != version:
                found.append(f"{where}: the code is {version}")
            elif not name or tag in ("", "latest"):
                found.append(f"{where}: no fixed version")
    return found


def privileges(objects: Objects) -> list[str]:
    """Pods that ask for more than Kubernetes' restricted profile gives, write to their root, or hold a token."""
    found = []
    for pod in pods(objects):
        where, own = f"{pod.kind}/{pod.name}", pod.spec.get("securityContext", {})
        if pod.by_operator:
            continue
        for container in pod.containers:
            of = own | container.get("securityContext", {})
            wrong = {
                "may be root": of.get("runAsNonRoot") is not True or of.get("runAsUser", 1) == 0,
                "may gain privileges": of.get("allowPrivilegeEscalation") is not False or of.get("privileged", False),
                "keeps capabilities": of.get("capabilities") != {"drop": ["ALL"]},
                "is held by no seccomp profile": of.get("seccompProfile") != {"type": "RuntimeDefault"},
                "may write to its root": of.get("readOnlyRootFilesystem") is not True,
                "has no limits": not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys(),
            }
            found += [f"{where}: {container['name']} {what}" for what, is_so in wrong.items() if is_so]
        shares = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(name)]
        shares += [volume["name"] for volume in pod.spec.get("volumes", []) if "hostPath" in volume]
        found += [f"{where}: shares the node's {name}" for name in shares]
        if pod.spec.get("automountServiceAccountToken") is not False and not _needs_token(pod.name, objects):
            found.append(f"{where}: is given a token that it does not need")
    return found


def _needs_token(account: str, objects: Objects) -> bool:
    return any(subject["name"] == account for it in of_kind(objects, "RoleBinding") for subject in it["subjects"])


def store(objects: Objects) -> list[str]:
    """Who may write to the store beside those who do, and who sees it elsewhere than BOHDI_STORE says."""
    found = []
    for pod in pods(objects):
        for container in pod.containers if not pod.by_operator else ():
            for mount in container.get("volumeMounts", []):
                if mount["name"] != "store":
                    continue
                if not mount.get("readOnly") and pod.name not in _STORE_WRITERS:
                    found.append(f"{pod.kind}/{pod.name}: need not write to the store")
                path = mount["mountPath"]
                told = _environment(container, objects).get("BOHDI_STORE", path)
                if told != path:
                    found.append(f"{pod.kind}/{pod.name}: the store is at {path}, BOHDI_STORE says {told}")
    return found


# ---- metrics -----------------------------------------------------------------------------------------------------


def metrics(objects: Objects, exported: set[str]) -> list[str]:
    """Names in rules and scalers that nobody exports."""
    rules = [
        (title(it), rule)
        for it in of_kind(objects, "PrometheusRule")
        for group in it["spec"]["groups"]
        for rule in group["rules"]
    ]
    recorded = {rule["record"] for _, rule in rules if "record" in rule}
    queries = [(f"{where}: {rule.get('alert') or rule.get('record')}", str(rule["expr"])) for where, rule in rules]
    queries += [
        (title(it), trigger["metadata"]["query"])
        for it in of_kind(objects, "ScaledObject")
        for trigger in it["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    known = exported | recorded | _FOREIGN_METRICS
    return [f"{where}: nobody exports {name}" for where, query in queries for name in sorted(series(query) - known)]


def series(query: str) -> set[str]:
    """The names of the series in a PromQL expression."""
    return {word for word in _WORD.findall(_NO_METRIC.sub(" ", query)) if word.lower() not in _KEYWORDS}


def built_by(skaffold: dict[str, Any]) -> dict[str, Path]:
    """The Dockerfile of each image that skaffold.yaml builds."""
    artifacts = skaffold["build"]["artifacts"]
    return {it["image"]: ROOT / it.get("context", ".") / it["docker"]["dockerfile"] for it in artifacts}
