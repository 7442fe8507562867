"""The manifests of examples/kubernetes: Kubernetes' own schemas accept them, and they say what this project needs.

No cluster has run them.
"""

import json

import pytest
import yaml

from sandbox.containers.limits import Limits, container_options
from sandbox.http.address import TOKEN_VARIABLE
from tests.test_docs import ROOT

FOLDER = ROOT / "examples" / "kubernetes"
OBJECTS = [
    item for path in sorted(FOLDER.glob("*.yaml")) for item in yaml.safe_load_all(path.read_text())
]
BY_KIND = {item["kind"]: item for item in OBJECTS}
PODS = {
    item["metadata"]["name"]: item["spec"]["template"]["spec"]
    for item in OBJECTS
    if "template" in item["spec"]
}
PROGRAMS, SERVE = PODS["sandbox"]["containers"]
(TRAIN,) = PODS["train"]["containers"]


@pytest.mark.parametrize(
    "item", OBJECTS, ids=lambda item: f"{item['kind']} {item['metadata']['name']}"
)
def test_the_published_schemas_accept_every_object_and_know_every_field(item):
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(item, validate.latest_version(), strict=True)


def test_the_schemas_refuse_a_misspelt_field():
    validate = pytest.importorskip("kubernetes_validate")
    wrong = {**BY_KIND["Job"], "spec": {**BY_KIND["Job"]["spec"], "backofLimit": 0}}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, validate.latest_version(), strict=True)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_no_pod_has_a_key_to_the_cluster_or_to_its_node(pod):
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in pod["containers"]:
        allowed = container["securityContext"]
        assert allowed["allowPrivilegeEscalation"] is False and not allowed.get("privileged")
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["capabilities"]["drop"] == ["ALL"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}


def test_all_but_what_runs_the_programs_fits_the_restricted_standard():
    for pod, container in ((PODS["sandbox"], SERVE), (PODS["train"], TRAIN)):
        allowed = {**pod["securityContext"], **container["securityContext"]}
        assert allowed["runAsNonRoot"] is True and allowed["runAsUser"] == 1000
        assert "add" not in allowed["capabilities"]


def test_what_runs_the_programs_has_what_its_container_has_elsewhere():
    elsewhere = container_options(Limits())
    allowed = PROGRAMS["securityContext"]
    assert allowed["capabilities"]["add"] == elsewhere["cap_add"]
    assert PROGRAMS["resources"]["limits"] == {"cpu": "2", "memory": "2Gi"}
    assert elsewhere["mem_limit"] == 2 << 30
    options = json.loads(PROGRAMS["args"][0])
    assert options["owner_uid"] == SERVE["securityContext"]["runAsUser"]
    assert {"name": "sockets", "mountPath": options["socket_dir"]} in PROGRAMS["volumeMounts"]
    assert {"name": "sockets", "mountPath": "/run/sdpo-bench/0"} in SERVE["volumeMounts"]


def test_training_finds_the_server_and_both_have_the_token():
    (port,) = BY_KIND["Service"]["spec"]["ports"]
    address = TRAIN["args"][TRAIN["args"].index("--sandbox") + 1]
    assert address == f"http://{BY_KIND['Service']['metadata']['name']}:{port['port']}"
    labels = BY_KIND["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    assert str(port["port"]) in SERVE["args"]
    tokens = [
        entry["valueFrom"]
        for container in (SERVE, TRAIN)
        for entry in container["env"]
        if entry["name"] == TOKEN_VARIABLE
    ]
    assert tokens == [{"secretKeyRef": {"name": "sandbox-token", "key": "token"}}] * 2


def test_nothing_leaves_the_sandboxes_and_only_training_comes_in():
    policy = BY_KIND["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == {"app": "sandbox"}
    assert policy["policyTypes"] == ["Ingress", "Egress"] and policy["egress"] == []
    (rule,) = policy["ingress"]
    label = BY_KIND["Job"]["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": label}}]


def test_a_job_is_not_tried_twice_as_two_runs():
    assert BY_KIND["Job"]["spec"]["backoffLimit"] == 0
    assert PODS["train"]["restartPolicy"] == "Never"
