"""Mistakes made on purpose in manifests that are right, and each is found, by its name."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest

from tests.deploy import checks, code_facts, network
from tests.deploy.pods import name_of
from tests.deploy.rendered import Object, Objects, combination, overlay


@pytest.fixture
def objects() -> Objects:
    """The production overlay, to be spoilt."""
    return deepcopy(overlay("production"))


def the(objects: Objects, kind: str, name: str) -> Object:
    whole = re.compile(rf"{name}(-[a-z0-9]{{10}})?")  # kustomize adds a hash to ConfigMaps
    (found,) = [it for it in objects if it["kind"] == kind and whole.fullmatch(name_of(it))]
    return found


def container(objects: Objects, name: str) -> Object:
    first: Object = the(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    return first


# ---- ports and selectors -----------------------------------------------------------------------------------------


def test_a_wrong_port_in_a_service(objects: Objects) -> None:
    the(objects, "Service", "vllm-qwen")["spec"]["ports"][0]["targetPort"] = 8001
    assert checks.ports(objects) == ["Service/vllm-qwen: no pod listens on 8001"]


def test_a_wrong_port_of_a_service_that_has_no_address_of_its_own(objects: Objects) -> None:
    the(objects, "Service", "vllm-target")["spec"]["ports"][0]["port"] = 80
    assert "Service/vllm-target: has no address of its own, so 80 must be the pods' own port" in checks.ports(objects)


def test_a_probe_of_a_port_that_no_container_has(objects: Objects) -> None:
    container(objects, "judging")["readinessProbe"]["httpGet"]["port"] = "web"
    assert checks.ports(objects) == ["Deployment/judging: readinessProbe: no container has the port web"]


def test_health_on_another_port_than_the_probes_ask(objects: Objects) -> None:
    the(objects, "ConfigMap", "bohdi")["data"]["BOHDI_HEALTH"] = "0.0.0.0:9000"
    assert "Deployment/bandit: the port health is 8080, and BOHDI_HEALTH says 9000" in checks.ports(objects)


def test_a_broker_where_nobody_listens(objects: Objects) -> None:
    the(objects, "ConfigMap", "bohdi")["data"]["BOHDI_KAFKA"] = "bohdi-kafka-bootstrap:9093"
    assert "Job/topics: BOHDI_KAFKA: nobody is at bohdi-kafka-bootstrap:9093" in checks.ports(objects)


def test_a_selector_that_takes_no_pod(objects: Objects) -> None:
    the(objects, "PodDisruptionBudget", "judging")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] = "jud"
    assert len(found := checks.selectors(objects)) == 1
    assert found[0].startswith("PodDisruptionBudget/judging: selects no pod")


def test_a_service_that_takes_the_pods_of_two(objects: Objects) -> None:
    the(objects, "Service", "vllm-qwen")["spec"]["selector"] = {"app.kubernetes.io/name": "vllm"}
    assert checks.selectors(objects)[0].startswith("Service/vllm-qwen: selects pods of several")


def test_a_secret_that_nobody_makes(objects: Objects) -> None:
    objects.remove(the(objects, "KafkaUser", "judging"))
    assert checks.references(objects) == ["Deployment/judging: there is no Secret/judging"]


# ---- topics ------------------------------------------------------------------------------------------------------


def test_a_topic_that_is_missing(objects: Objects) -> None:
    acls = the(objects, "KafkaUser", "judging")["spec"]["authorization"]["acls"]
    acls[:] = [acl for acl in acls if acl["resource"]["name"] != "bohdi.answers"]
    assert checks.topics(objects) == ["KafkaUser/judging: must be allowed: Read topic bohdi.answers"]


def test_a_topic_that_does_not_exist(objects: Objects) -> None:
    the(objects, "KafkaUser", "judging")["spec"]["authorization"]["acls"][2]["resource"]["name"] = "bohdi.answer"
    assert "KafkaUser/judging: there is no topic bohdi.answer" in checks.topics(objects)


def test_a_right_that_the_registry_does_not_give(objects: Objects) -> None:
    acls = the(objects, "KafkaUser", "judging")["spec"]["authorization"]["acls"]
    acls.append({"resource": {"type": "topic", "name": "bohdi.training.requests"}, "operations": ["Write"]})
    assert checks.topics(objects) == ["KafkaUser/judging: need not be allowed: Write topic bohdi.training.requests"]


def test_a_scaler_on_a_topic_that_does_not_exist() -> None:
    objects = deepcopy(combination(("kafka-strimzi", "keda")))
    the(objects, "ScaledObject", "generation")["spec"]["triggers"][0]["metadata"]["topic"] = "bohdi.harvests"
    assert checks.topics(objects) == ["ScaledObject/generation: there is no topic bohdi.harvests"]


# ---- variables and metrics ---------------------------------------------------------------------------------------


def test_a_variable_that_no_configuration_reads(objects: Objects) -> None:
    the(objects, "ConfigMap", "bohdi")["data"]["BOHDI_STROE"] = "/var/lib/bohdi"
    found = checks.environment(objects, code_facts.variables())
    assert found == ["BOHDI_STROE: no configuration and no command reads this variable"]


def test_a_value_that_the_code_refuses(objects: Objects) -> None:
    container(objects, "judging")["env"] = [{"name": "BOHDI_CAPACITY", "value": "many"}]
    (found,) = checks.environment(objects, code_facts.variables())
    assert found.startswith("Deployment/judging: BOHDI_CAPACITY: not a number")


def test_a_renamed_metric(objects: Objects) -> None:
    rules = the(objects, "PrometheusRule", "bohdi-presence")["spec"]["groups"][0]["rules"]
    rules.append({"alert": "Dead", "expr": 'sum by (pod) (rate(bohdi_dead_letters_total{pod=~"a.*"}[5m])) > 0'})
    exported = code_facts.metrics()
    assert checks.metrics(objects, exported) == []
    renamed = exported - {"bohdi_dead_letters_total"}
    assert "PrometheusRule/bohdi-presence: Dead: nobody exports bohdi_dead_letters_total" in checks.metrics(
        objects, renamed
    )


def test_names_of_series_are_told_from_all_else_in_a_query() -> None:
    query = (
        "histogram_quantile(0.9, sum by (le, service) (rate(a_seconds_bucket[5m]))) > on (pod) group_left (run) "
        'max without (x) (b{name="c_total", other!~"d"}) and absent(e offset 5m) == bool 1e3 '
        "or count_over_time(f[1h:5m])"
    )
    assert checks.series(query) == {"a_seconds_bucket", "b", "e", "f"}


# ---- rights and images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"runAsNonRoot": False}, "may be root"),
        ({"runAsUser": 0}, "may be root"),
        ({"allowPrivilegeEscalation": True}, "may gain privileges"),
        ({"privileged": True}, "may gain privileges"),
        ({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}, "keeps capabilities"),
        ({"seccompProfile": {"type": "Unconfined"}}, "is held by no seccomp profile"),
        ({"readOnlyRootFilesystem": False}, "may write to its root"),
    ],
)
def test_a_root_container_and_its_like(objects: Objects, setting: Object, complaint: str) -> None:
    container(objects, "judging")["securityContext"] |= setting
    assert checks.privileges(objects) == [f"Deployment/judging: judging {complaint}"]


def test_a_token_for_who_needs_none(objects: Objects) -> None:
    the(objects, "Deployment", "judging")["spec"]["template"]["spec"].pop("automountServiceAccountToken")
    assert checks.privileges(objects) == ["Deployment/judging: is given a token that it does not need"]


def test_a_volume_of_the_node(objects: Objects) -> None:
    volumes = the(objects, "Deployment", "judging")["spec"]["template"]["spec"]["volumes"]
    volumes.append({"name": "node", "hostPath": {"path": "/"}})
    assert checks.privileges(objects) == ["Deployment/judging: shares the node's node"]


def test_a_store_that_is_written_by_who_only_reads(objects: Objects) -> None:
    (mount,) = [m for m in container(objects, "judging")["volumeMounts"] if m["name"] == "store"]
    del mount["readOnly"]
    assert checks.store(objects) == ["Deployment/judging: need not write to the store"]


def test_an_image_that_nothing_builds_and_one_of_another_version(objects: Objects) -> None:
    container(objects, "judging")["image"] = "bohdi-juging:0.1.0"
    container(objects, "bandit")["image"] = "bohdi-bandit:0.0.9"
    built = {"bohdi-bandit", "bohdi-generation", "bohdi-tree-expansion", "bohdi-training"}
    found = checks.images(objects, built, "0.1.0")
    assert found == [
        "Deployment/bandit: bohdi-bandit:0.0.9: the code is 0.1.0",
        "Deployment/judging: bohdi-juging:0.1.0: skaffold.yaml builds no such image",
    ]


def test_a_pod_that_is_killed_before_it_has_ended(objects: Objects) -> None:
    the(objects, "Deployment", "judging")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 10
    assert checks.commands(objects) == ["Deployment/judging: is killed before it has ended by itself, 20 s"]


def test_a_service_that_does_not_exist_and_probes_of_another_path(objects: Objects) -> None:
    container(objects, "judging")["command"][-1] = "services.judge"
    container(objects, "bandit")["livenessProbe"]["httpGet"]["path"] = "/ready"
    assert checks.commands(objects) == [
        "Deployment/bandit: probes ask for ['/live', '/ready', '/ready']",
        "Deployment/judging: there is no module services.judge",
    ]


# ---- network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "rule", "complaint"),
    [
        ("egress", {}, "open to anybody"),
        ("ingress", {"ports": [{"port": 8080}]}, "open to anybody"),
        ("egress", {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}, "open to addresses"),
        ("ingress", {"from": [{"namespaceSelector": {}}]}, "open to namespaces: {}"),
        ("ingress", {"from": [{"podSelector": {}}]}, "open to all pods"),
    ],
)
def test_an_open_network_policy(objects: Objects, direction: str, rule: Object, complaint: str) -> None:
    the(objects, "NetworkPolicy", "judging")["spec"][direction].append(rule)
    assert network.closed(objects) == [f"NetworkPolicy/judging: {direction}: {complaint}"]


def test_a_pod_that_no_policy_holds(objects: Objects) -> None:
    for name in ("judging", "default-deny"):
        objects.remove(the(objects, "NetworkPolicy", name))
    assert network.closed(objects) == [
        "Deployment/judging: no NetworkPolicy for Egress",
        "Deployment/judging: no NetworkPolicy for Ingress",
    ]


def test_an_edge_that_the_flow_table_does_not_have(objects: Objects) -> None:
    models = the(objects, "NetworkPolicy", "judging")["spec"]["egress"][-1]
    the(objects, "NetworkPolicy", "bandit")["spec"]["egress"].append(deepcopy(models))
    the(objects, "NetworkPolicy", "vllm-qwen")["spec"]["ingress"][0]["from"].append(
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "bandit"}}}
    )
    assert network.edges(objects) == ["bandit may speak to vllm-qwen: the flow table has no such edge"]


def test_an_edge_of_the_flow_table_that_is_shut(objects: Objects) -> None:
    egress = the(objects, "NetworkPolicy", "judging")["spec"]["egress"]
    egress[:] = [rule for rule in egress if {"protocol": "TCP", "port": 9092} not in rule["ports"]]
    assert network.edges(objects) == ["judging cannot speak to broker, and must"]


def test_a_listener_that_lets_one_service_in_no_more(objects: Objects) -> None:
    listener = the(objects, "Kafka", "bohdi")["spec"]["kafka"]["listeners"][0]
    listener["networkPolicyPeers"][0]["podSelector"]["matchExpressions"][0]["values"].remove("topics")
    assert network.edges(objects) == ["topics cannot speak to broker, and must"]
