"""Who may speak to whom, by the NetworkPolicies of a set of objects. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.deploy.code_facts import kafka_users, model_users
from tests.deploy.pods import Pod, name_of, of_kind, pods, selects, title
from tests.deploy.rendered import Object, Objects

DNS, MONITORING, KEDA = "(names)", "(monitoring)", "(keda)"
_NAMESPACES = {"kube-system": DNS, "monitoring": MONITORING, "keda": KEDA}
_DNS_PORTS = {53}
_API_PORTS = {443, 6443}
# Who speaks to the API server, whose address no policy can know: training's jobs, and Strimzi's user operator.
_API_CALLERS = {"NetworkPolicy/training-trainjobs", "NetworkPolicy/kafka-strimzi"}

Edge = tuple[str, str]


def wanted(objects: Objects) -> set[Edge]:
    """What the flow table and the code want between the pods that are there."""
    there = pods(objects)
    brokers = {pod.name for pod in there if pod.labels.get("bohdi-role") == "kafka"}
    servers = {pod.name for pod in there if pod.labels.get("bohdi-role") == "model-server"}
    on_kafka = {name.replace("_", "-") for name in kafka_users()} | {"topics", "run"}
    ask_models = {name.replace("_", "-") for name in model_users()} | {"run"}
    edges = {(pod.name, broker) for pod in there if pod.name in on_kafka for broker in brokers}
    edges |= {(pod.name, server) for pod in there if pod.name in ask_models for server in servers}
    strimzi = {pod.name for pod in there if pod.by_operator}
    edges |= {(a, b) for a in strimzi for b in strimzi}
    return edges | {(name, name) for name in ("kafka-dev", "trainjob") if name in {pod.name for pod in there}}


def allowed(objects: Objects) -> set[Edge]:
    """What the policies let through between the pods that are there: out of the one, and into the other."""
    there = pods(objects)
    return {
        (a.name, b.name)
        for a in there
        for b in there
        if _lets(objects, a, b, "Egress", "to") and (b.by_operator or _lets(objects, b, a, "Ingress", "from"))
        if not b.by_operator or a.by_operator or _listener_lets(objects, a, b)
    }


def edges(objects: Objects) -> list[str]:
    """Edges that no topic and no model needs, and edges that are needed and shut."""
    there, needed = allowed(objects), wanted(objects)
    return [f"{a} may speak to {b}: the flow table has no such edge" for a, b in sorted(there - needed)] + [
        f"{a} cannot speak to {b}, and must" for a, b in sorted(needed - there)
    ]


def closed(objects: Objects) -> list[str]:
    """Pods whom no policy holds in a direction, and rules that are open to anybody."""
    policies = of_kind(objects, "NetworkPolicy")
    found = []
    for pod in pods(objects):
        held = {d for p in policies if selects(p["spec"]["podSelector"], pod.labels) for d in p["spec"]["policyTypes"]}
        missing = {"Ingress", "Egress"} - held - ({"Ingress"} if pod.by_operator else set())
        found += [f"{pod.kind}/{pod.name}: no NetworkPolicy for {direction}" for direction in sorted(missing)]
    for policy in policies:
        for key, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(key) or []:
                found += [f"{title(policy)}: {key}: {why}" for why in _open(policy, rule, peers)]
    return found


def _open(policy: Object, rule: Object, peers: str) -> Iterator[str]:
    ports = {port.get("port") for port in rule.get("ports", [])}
    if not rule.get(peers):
        if not (title(policy) in _API_CALLERS and peers == "to" and ports == _API_PORTS):
            yield "open to anybody"
        return
    for peer in rule[peers]:
        selector = peer.get("namespaceSelector")
        if "ipBlock" in peer:
            yield "open to addresses"
        elif selector is not None and _namespace(peer) is None:
            yield f"open to namespaces: {selector}"
        elif _namespace(peer) == DNS and ports != _DNS_PORTS:
            yield f"to names by other ports than 53: {sorted(map(str, ports))}"
        elif peer.get("podSelector") == {}:
            yield "open to all pods"


def _namespace(peer: Object) -> str | None:
    """Whom a peer of another namespace stands for; None for one of the same, or one that is not known."""
    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
    return _NAMESPACES.get(labels.get("kubernetes.io/metadata.name", ""))


def _lets(objects: Objects, held: Pod, other: Pod, direction: str, peers: str) -> bool:
    """Whether the policies that hold `held` in a direction let `other` through. None that holds it lets all through."""
    holding = [
        policy["spec"]
        for policy in of_kind(objects, "NetworkPolicy")
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], held.labels)
    ]
    if not holding:
        return True
    listens = held if direction == "Ingress" else other
    return any(
        _takes(rule.get(peers), other) and _opens(rule.get("ports"), listens)
        for spec in holding
        for rule in spec.get(direction.lower()) or []
    )


def _takes(peers: Sequence[Object] | None, other: Pod) -> bool:
    """Whether peers of a rule take the pod. A rule for anybody is no edge: `closed` complains of it."""
    return any(
        "namespaceSelector" not in peer and selects(peer.get("podSelector", {}), other.labels) for peer in peers or []
    )


def _opens(ports: Sequence[Object] | None, listens: Pod) -> bool:
    """Whether a rule opens a port of the pod that listens; one without ports opens all."""
    if not ports:
        return True
    numbers = [port["containerPort"] for container in listens.containers for port in container.get("ports", [])]
    for told in ports:
        port = told["port"] if isinstance(told["port"], int) else listens.port(told["port"])
        if port is not None and any(port <= number <= told.get("endPort", port) for number in numbers):
            return True
    return False


def _listener_lets(objects: Objects, one: Pod, broker: Pod) -> bool:
    """Whether Strimzi's own policy, made of the listener's peers, lets a pod in."""
    if broker.labels.get("bohdi-role") != "kafka":
        return False
    return any(
        _takes(listener.get("networkPolicyPeers"), one)
        for kafka in of_kind(objects, "Kafka")
        if name_of(kafka) == broker.labels["strimzi.io/cluster"]
        for listener in kafka["spec"]["kafka"]["listeners"]
    )
