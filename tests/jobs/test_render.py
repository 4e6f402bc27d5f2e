"""render: what is written is what KubeRay's and Ray's own schemas know, field by field."""

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from kube_schema import problems, schema_of
from overpaint.jobs.cli import main

RECIPE = """
name = "negative"
[[stage]]
operator = "negative"
group = "gpu"
[[stage]]
operator = "score"
group = "cpu"
[group.gpu]
num_gpus = {gpus}
num_cpus = 2
memory_gib = 8
actors = [2, 8]
[group.cpu]
actors = [1, 4]
"""
CPU_ONLY = 'image = "registry.example/overpaint:1"\n[[nodes]]\nname = "cpu"\nmax_nodes = 12\n'
ONE_GPU = CPU_ONLY + '[[nodes]]\nname = "gpu"\ngpus = 2\naccelerator = "nvidia-l4"\n'
MIXED = """
name = "nightly"
image = "registry.example/overpaint:1"
namespace = "images"
platform = "gke"
image_pull_secrets = ["registry"]
service_account = "overpaint-s3"
secrets = ["hub-token"]
auth_secret = "ray-token"
tmp_gib = 100
env = { AWS_REGION = "eu-central-1" }
[head]
cpus = 4
memory_gib = 16
node_config = { InstanceType = "m6i.xlarge" }
[[nodes]]
name = "steady"
gpus = 1
accelerator = "nvidia-l4"
max_nodes = 2
node_config = { InstanceType = "g6.2xlarge" }
[[nodes]]
name = "spot"
gpus = 1
accelerator = "nvidia-l4"
spot = true
max_nodes = 16
priority = 10
tolerations = [{ key = "team", operator = "Exists", effect = "NoSchedule" }]
node_config = { InstanceType = "g6.2xlarge", InstanceMarketOptions = { MarketType = "spot" } }
[[nodes]]
name = "cpu"
cpus = 8
memory_gib = 32
[models]
claim = "models"
[security]
read_only_root = true
[schedule]
cron = "0 2 * * *"
time_zone = "Europe/Berlin"
[job]
retries = 5
deadline_s = 36000
[launcher]
provider = { type = "aws", region = "eu-central-1" }
"""
CLUSTERS = {"cpu only": (CPU_ONLY, 0), "one gpu group": (ONE_GPU, 1), "mixed": (MIXED, 1)}


@pytest.fixture
def recipe(tmp_path):
    """Adds fields to the placement of the recipe's GPU group."""
    added = tmp_path / "placement.toml"
    return lambda fields: added.write_text(f"num_cpus = 2\n{fields}\n")


@pytest.fixture
def rendered(tmp_path, capsys):
    """Renders to objects, with a recipe and a description of one's own."""

    def render(what, cluster, gpus=1, *options):
        added = tmp_path / "placement.toml"
        text = RECIPE.format(gpus=gpus)
        if added.exists():
            text = text.replace("num_cpus = 2\n", added.read_text())
        (tmp_path / "recipe.toml").write_text(text)
        (tmp_path / "cluster.toml").write_text(cluster)
        command = ["render", what, str(tmp_path / "recipe.toml"), "--cluster"]
        command += [str(tmp_path / "cluster.toml"), *options]
        if what in ("rayjob", "raycronjob"):
            command += ["--input", "s3://bucket/in", "--output", "s3://bucket/out put"]
        code = main(command)
        said = capsys.readouterr()
        return list(yaml.safe_load_all(said.out)) if code == 0 else said.err

    return render


@pytest.mark.parametrize("what", ["rayjob", "raycronjob", "raycluster"])
@pytest.mark.parametrize("case", CLUSTERS)
def test_objects_have_no_field_that_kuberay_does_not_know(rendered, what, case):
    cluster, gpus = CLUSTERS[case]
    if what == "raycronjob" and "[schedule]" not in cluster:
        cluster += '[schedule]\ncron = "@daily"\n'
    *others, ray = rendered(what, cluster, gpus)
    assert list(problems(ray, schema_of(ray["kind"]))) == []
    assert ray["kind"].lower() == what
    assert [one["kind"] for one in others] == (["ConfigMap"] if what != "raycluster" else [])


def test_validator_finds_what_kubernetes_would_refuse_or_drop(rendered):
    _, job = rendered("rayjob", MIXED)
    schema = schema_of("RayJob")
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["tolerance"] = []
    job["spec"]["backoffLimit"] = "3"
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]
    found = list(problems(job, schema))
    assert len(found) == 3
    assert any("no field tolerance" in one for one in found)
    assert any("backoffLimit: '3' is no integer" in one for one in found)
    assert any("groupName is missing" in one for one in found)


def test_job_runs_the_recipe_that_it_mounts(rendered):
    recipe, job = rendered("rayjob", MIXED)
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:2] == ["overpaint", "run"]
    assert command[3:] == ["--input=s3://bucket/in", "--output=s3://bucket/out put"]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mount = next(one for one in head["containers"][0]["volumeMounts"] if one["name"] == "recipe")
    assert command[2] == f"{mount['mountPath']}/{next(iter(recipe['data']))}"
    volume = next(one for one in head["volumes"] if one["name"] == "recipe")
    assert volume["configMap"]["name"] == recipe["metadata"]["name"]
    assert recipe["data"]["recipe.toml"] == RECIPE.format(gpus=1)
    assert job["spec"]["backoffLimit"] == 5


def test_tick_takes_what_is_new_and_ends_beside_another(rendered):
    _, job = rendered("raycronjob", MIXED)
    assert job["spec"]["schedule"] == "0 2 * * *"
    assert job["spec"]["timeZone"] == "Europe/Berlin"
    command = shlex.split(job["spec"]["jobTemplate"]["entrypoint"])
    assert {"--update", "--if-idle"} <= set(command)


def test_machines_are_chosen_by_the_platform_s_labels(rendered):
    _, job = rendered("rayjob", MIXED)
    groups = {g["groupName"]: g for g in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}
    spot, steady, cpu = (groups[name] for name in ("spot", "steady", "cpu"))
    chosen = spot["template"]["spec"]["nodeSelector"]
    assert chosen["cloud.google.com/gke-spot"] == "true"
    assert chosen["cloud.google.com/gke-accelerator"] == "nvidia-l4"
    assert "cloud.google.com/gke-spot" not in steady["template"]["spec"]["nodeSelector"]
    tolerated = {one["key"] for one in spot["template"]["spec"]["tolerations"]}
    assert tolerated == {"nvidia.com/gpu", "cloud.google.com/gke-spot", "team"}
    assert "tolerations" not in cpu["template"]["spec"]
    assert spot["labels"] == {"ray.io/market-type": "spot", "ray.io/accelerator-type": "L4"}
    assert cpu["labels"] == {"ray.io/market-type": "on-demand"}
    assert (spot["minReplicas"], spot["maxReplicas"]) == (0, 16)
    assert (steady["minReplicas"], steady["maxReplicas"]) == (2, 2)


def test_secrets_are_named_and_never_written(rendered):
    _, job = rendered("rayjob", MIXED)
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in [one["template"]["spec"] for one in pods]:
        container = pod["containers"][0]
        assert container["envFrom"] == [{"secretRef": {"name": "hub-token"}}]
        assert pod["serviceAccountName"] == "overpaint-s3"
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-token"}


def test_requests_come_from_the_actors_that_a_node_holds(rendered):
    (cluster,) = rendered("raycluster", ONE_GPU, 0.5)
    gpu = next(g for g in cluster["spec"]["workerGroupSpecs"] if g["groupName"] == "gpu")
    limits = gpu["template"]["spec"]["containers"][0]["resources"]["limits"]
    # Four actors of half a GPU share two GPUs: 2 CPUs and 8 GiB each.
    assert limits["nvidia.com/gpu"] == "2"
    assert limits["cpu"] == "9"
    assert limits["memory"] == f"{48 * 1024}Mi"
    assert (gpu["minReplicas"], gpu["maxReplicas"]) == (1, 2)


def _replicas(job):
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return {g["groupName"]: (g["minReplicas"], g["maxReplicas"]) for g in groups}


def test_group_lands_on_the_nodes_that_its_placement_asks_for(rendered, recipe):
    h100 = '[[nodes]]\nname = "h100"\ngpus = 2\naccelerator = "nvidia-h100-80gb"\n[models]'
    cluster = MIXED.replace("[models]", h100, 1)
    recipe('accelerator_type = "H100"')
    _, job = rendered("rayjob", cluster)
    # Two to eight actors on the H100s, and the CPU group's four on CPU nodes; none on the L4s.
    assert _replicas(job) == {"steady": (0, 2), "spot": (0, 16), "cpu": (1, 1), "h100": (1, 4)}
    recipe('accelerator_type = "L4"\nmarket_type = "spot"')
    _, job = rendered("rayjob", cluster)
    assert _replicas(job) == {"steady": (0, 2), "spot": (2, 16), "cpu": (1, 1), "h100": (0, 0)}
    recipe('accelerator_type = "T4"')
    said = rendered("rayjob", cluster)
    assert "group 'gpu': an actor needs 2 CPUs, 1 GPUs, 8 GiB, T4 and fits no node" in said
    assert "GiB, H100" in said


def test_labels_that_ray_needs_can_be_said_where_the_platform_s_name_does_not_tell(rendered):
    named = ONE_GPU.replace('"nvidia-l4"', '"own-label"\naccelerator_type = "L4"')
    (cluster,) = rendered("raycluster", named)
    gpu = next(g for g in cluster["spec"]["workerGroupSpecs"] if g["groupName"] == "gpu")
    assert gpu["labels"]["ray.io/accelerator-type"] == "L4"
    wrong = named.replace('"L4"', '"L44"')
    assert "did you mean 'L4'?" in rendered("raycluster", wrong)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("gpus = 1", "gpu = 1"), "unknown field 'nodes.0.gpu': did you mean 'gpus'?"),
        (('"gke"', '"gkee"'), "did you mean 'gke'?"),
        (("[models]", "[model]"), "unknown field 'model': did you mean 'models'?"),
        (('image = "registry.example/overpaint:1"', ""), "field 'image' is missing"),
        (('"0 2 * * *"', '"2 o\'clock"'), "minute, hour, day, month and weekday"),
        (("max_nodes = 2", "max_nodes = 2\nmin_nodes = 3"), "above max_nodes"),
        (('name = "spot"', 'name = "steady"'), "'steady' is taken"),
        (("[head]", "[head"), "not TOML"),
    ],
)
def test_wrong_description_is_one_sentence_with_a_near_miss(rendered, change, said):
    assert change[0] in MIXED
    error = rendered("rayjob", MIXED.replace(*change, 1))
    assert said in error
    assert "cluster.toml" in error


@pytest.mark.parametrize(
    ("cluster", "gpus", "said"),
    [
        (CPU_ONLY, 1, "group 'gpu': an actor needs 2 CPUs, 1 GPUs, 8 GiB and fits no node"),
        (
            ONE_GPU.replace("gpus = 2", "gpus = 2\nmax_nodes = 0"),
            1,
            "hold 0: raise max_nodes of gpu",
        ),
        (ONE_GPU.replace("gpus = 2", "gpus = 2\nmin_nodes = 0"), 1, "raise min_nodes of gpu"),
        (ONE_GPU.replace("gpus = 2", "gpus = 2\ncpus = 1"), 1, "fits no node"),
    ],
)
def test_plan_that_cannot_fit_is_refused(rendered, cluster, gpus, said):
    assert said in rendered("raycluster", cluster, gpus)


def test_example_is_a_description_of_all_kinds(rendered, capsys):
    assert main(["render", "example"]) == 0
    example = capsys.readouterr().out
    for what in ("rayjob", "raycronjob", "raycluster"):
        ray = rendered(what, example, 1)[-1]
        assert list(problems(ray, schema_of(ray["kind"]))) == []
    assert rendered("launcher", example)[0]["cluster_name"] == "overpaint"


def test_cron_job_needs_a_schedule(rendered):
    assert "no schedule" in rendered("raycronjob", ONE_GPU)


def test_launcher_file_is_valid_by_ray_s_own_schema(rendered):
    import ray.autoscaler

    path = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    (file,) = rendered("launcher", MIXED)
    jsonschema.validate(file, json.loads(path.read_text()))
    assert file["available_node_types"]["spot"]["resources"]["GPU"] == 1
    assert file["available_node_types"]["spot"]["max_workers"] == 16
    assert file["head_node_type"] in file["available_node_types"]
    assert file["max_workers"] >= 18
    assert "no launcher" in rendered("launcher", ONE_GPU)


def test_dockerfile_s_steps_are_shell_and_its_files_are_there(capsys):
    assert main(["render", "dockerfile"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^FROM python", said, re.MULTILINE)
    assert "overpaint fetch" in said


def test_dashboard_shows_metrics_that_runs_export(capsys):
    from overpaint.cluster.ray import metrics

    assert main(["render", "grafana"]) == 0
    dashboard = json.loads(capsys.readouterr().out)
    queries = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    shown = set(re.findall(r"ray_(overpaint_\w+?)(?:_total|_bucket)?\{", queries))
    exported = set(re.findall(r'"(overpaint_\w+)"', Path(metrics.__file__).read_text()))
    assert shown == exported - {"overpaint_tasks"}


def test_fetch_names_the_weights_of_a_recipe_and_where_they_are(capsys):
    assert main(["fetch", "demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split(": ")[0]: line for line in lines}
    assert {"caption", "judge"} <= found.keys()
    for line in lines:
        digest, folder = re.search(r"papercut: (\w{16}) in (\S+)$", line).groups()
        assert Path(folder).is_dir(), digest


def test_fetch_says_which_stage_s_weights_cannot_be_had(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OVERPAINT_MODEL_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("OVERPAINT_MODELS", str(tmp_path / "models"))
    setting = ["--set", "caption.checkpoint=owner/name", "--set", "caption.revision=abc"]
    assert main(["fetch", "demo", *setting]) == 2
    said = capsys.readouterr().err
    assert "stage 'caption'" in said
    assert "no checkpoint is there" in said
