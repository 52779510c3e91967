"""What schemas miss. Each rule yields its complaints about a bundle, and has its broken manifests in broken/<rule>.yaml.

Here are the registry and the rules on whole objects. pods.py has the rules on containers, network.py on connections, roles.py on
the stores, links.py on what Kubernetes adds to pods, intake.py on the stream's consumer and its doorbell.
"""

import re

from . import schemas
from .bundle import INTAKE, name_of

# In the default overlay
NAMESPACE = "dadaev-arch-otus"
RULES = {}


def rule(function):
    RULES[function.__name__.replace("_", "-")] = function
    return function


def complaints(bundle, project):
    """All complaints, as (rule, text). A manifest that breaks the schema would only confuse the other rules."""
    found = [("schema", text) for text in RULES["schema"](bundle, project)]
    if not found:
        found = [(name, text) for name, check in RULES.items() for text in check(bundle, project)]
    return found


@rule
def schema(bundle, _project):
    for thing in bundle.things:
        yield from (f"{name_of(thing)}: {fault}" for fault in schemas.faults(thing))


@rule
def names(bundle, _project):
    """Everything is in one namespace, nothing belongs to the whole cluster, nothing exists twice: so removal deletes one namespace."""
    seen = set()
    if not bundle.namespace:
        yield "no object has a namespace"
    if bundle.default and bundle.namespace != NAMESPACE:
        yield f"the namespace is {bundle.namespace}, but the README installs into {NAMESPACE}"
    for thing in bundle.things:
        if thing["metadata"].get("namespace") != bundle.namespace:
            yield f"{name_of(thing)} is not in namespace {bundle.namespace}"
        if name_of(thing) in seen:
            yield f"{name_of(thing)} exists twice"
        seen.add(name_of(thing))
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", thing["metadata"]["name"]):
            yield f"{name_of(thing)} has a name that is not a DNS label"
    for kind in ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PersistentVolume"):
        yield from (f"{name_of(thing)} belongs to the whole cluster" for thing in bundle.of(kind))


ENUMS = {
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "operator": {"In", "NotIn", "Exists", "DoesNotExist"},
    "pathType": {"Exact", "Prefix", "ImplementationSpecific"},
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "unhealthyPodEvictionPolicy": {"IfHealthyBudget", "AlwaysAllow"},
    "whenDeleted": {"Retain", "Delete"},
    "whenScaled": {"Retain", "Delete"},
}


@rule
def enums(bundle, _project):
    """Values where Kubernetes' schemas allow any `string`, but its API server accepts only a few words."""
    for thing in bundle.things:
        if thing["kind"] not in ("ConfigMap", "Secret"):
            yield from (f"{name_of(thing)}: {text}" for text in _unknown_words(thing))
    for pod in bundle.pods():
        kind = pod.spec.get("securityContext", {}).get("seccompProfile", {}).get("type", "RuntimeDefault")
        if kind not in ("RuntimeDefault", "Localhost", "Unconfined"):
            yield f"{pod.owner}: seccompProfile.type is {kind}"


def _unknown_words(value):
    if isinstance(value, list):
        for item in value:
            yield from _unknown_words(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            words = item if isinstance(item, list) else [item]
            for word in words:
                if key in ENUMS and isinstance(word, str) and word not in ENUMS[key]:
                    yield f"{key} is {word}, not one of {', '.join(sorted(ENUMS[key]))}"
            yield from _unknown_words(item)


@rule
def versions(bundle, project):
    """The versions of versions.env."""
    expected = {
        "postgres": project.versions["POSTGRES_IMAGE"],
        "redis": project.versions["REDIS_IMAGE"],
        "ghcr.io/spinframework/spin": f"v{project.versions['SPIN']}",
    }
    executors = [executor["spec"].get("deploymentConfig", {}).get("spinImage", "") for executor in bundle.of("SpinAppExecutor")]
    for image in [container["image"] for pod in bundle.pods() for container in pod.spec["containers"]] + executors:
        name, _, tag = image.rpartition(":")
        if tag != expected.get(name, tag):
            yield f"image {image} is not {expected[name]}, as versions.env says"
        if name == "ghcr.io/cloudnative-pg/postgresql" and not tag.startswith(project.versions["POSTGRES"] + "."):
            yield f"image {image} is not PostgreSQL {project.versions['POSTGRES']}, as versions.env says"


@rule
def executor(bundle, _project):
    """The SpinApp's executor is in the bundle, before it, with a name that no other installation uses."""
    order = [name_of(thing) for thing in bundle.things]
    spin_images = [name_of(thing) for thing in bundle.of("SpinAppExecutor") if "spinImage" in thing["spec"].get("deploymentConfig", {})]
    for app in bundle.of("SpinApp"):
        wanted = f"SpinAppExecutor/{app['spec']['executor']}"
        if wanted not in order:
            yield f"{name_of(app)}: there is no {wanted}"
        elif order.index(wanted) > order.index(name_of(app)):
            yield f"{name_of(app)} comes before {wanted}: the operator would refuse it"
        elif wanted in spin_images and app["metadata"]["name"] == INTAKE:
            yield f"{name_of(app)}: {wanted} has a spinImage, which the operator starts with --listen; Spin's Redis trigger refuses that"
    for thing in bundle.of("SpinAppExecutor"):
        config = thing["spec"].get("deploymentConfig", {})
        if not thing["spec"]["createDeployment"]:
            yield f"{name_of(thing)} creates no Deployment"
        if ("runtimeClassName" in config) == ("spinImage" in config):
            yield f"{name_of(thing)} needs either a runtimeClassName or a spinImage"
        if not thing["metadata"]["name"].startswith(f"{bundle.namespace}-"):
            yield f"{name_of(thing)} does not begin with its namespace, {bundle.namespace}-: an executor of the same name elsewhere would keep the operator from deleting it"
        certificates = config.get("caCertSecret")
        if certificates and not config.get("installDefaultCACerts") and "ca-certificates.crt" not in _keys(bundle, certificates):
            yield f"{name_of(thing)}: Secret/{certificates} with ca-certificates.crt is missing"


def _keys(bundle, secret):
    return (bundle.find("Secret", secret) or {}).get("data") or {}


@rule
def replicas(bundle, _project):
    """A fixed number of replicas or autoscaling, never both."""
    scaled = {thing["spec"]["scaleTargetRef"]["name"]: thing for thing in bundle.of("HorizontalPodAutoscaler")}
    for thing in bundle.of("SpinApp", "Deployment"):
        name, fixed = thing["metadata"]["name"], "replicas" in thing["spec"]
        automatic = thing["spec"].get("enableAutoscaling", name in scaled)
        if fixed and (automatic or name in scaled):
            yield f"{name_of(thing)} has replicas and autoscaling"
        if not fixed and not automatic:
            yield f"{name_of(thing)} has neither replicas nor autoscaling"
        if automatic != (name in scaled):
            yield f"{name_of(thing)}: autoscaling is enabled in only one of two places"
        if fixed and thing["spec"]["replicas"] < 2:
            yield f"{name_of(thing)}: with one replica a rolling update or a lost node is an outage"
    for thing in scaled.values():
        if thing["spec"].get("minReplicas", 1) > thing["spec"]["maxReplicas"]:
            yield f"{name_of(thing)}: minReplicas is above maxReplicas"


# Lists that the API server stores as a whole, and what it adds to each of their items.
ADDED = [
    ("NetworkPolicy", "ingress.ports", {"protocol"}),
    ("NetworkPolicy", "egress.ports", {"protocol"}),
    ("StatefulSet", "volumeClaimTemplates", {"apiVersion", "kind", "status"}),
    ("StatefulSet", "volumeClaimTemplates.spec", {"volumeMode"}),
    ("HTTPRoute", "parentRefs", {"group", "kind"}),
    ("HTTPRoute", "rules.matches.path", {"type", "value"}),
    ("HTTPRoute", "rules.backendRefs", {"group", "kind", "weight"}),
    ("Cluster", "managed.roles", {"ensure", "inherit", "connectionLimit"}),
    ("Cluster", "managed.services.additional", {"updateStrategy"}),
]


@rule
def second_apply(bundle, _project):
    """Lists contain what the API server adds, so that a second apply prints `unchanged`. Your own overlay may leave it out."""
    for kind, path, added in ADDED if bundle.default else ():
        for thing in bundle.of(kind):
            for item in _items(thing["spec"], path.split(".")):
                yield from (f"{name_of(thing)}: {path} leaves {key} out, which the API server adds" for key in sorted(added - item.keys()))


def _items(value, steps):
    if isinstance(value, list):
        for one in value:
            yield from _items(one, steps)
    elif not steps:
        yield value
    elif steps[0] in value:
        yield from _items(value[steps[0]], steps[1:])


@rule
def migrations(bundle, project):
    """The Job applies the files in migrations/, and becomes another Job when they change."""
    jobs = bundle.of("Job")
    if len(jobs) != 1:
        yield f"{len(jobs)} Jobs, not one"
    for job in jobs:
        mounted = [volume.get("configMap", {}).get("name") for volume in job["spec"]["template"]["spec"].get("volumes", [])]
        maps = [thing for thing in bundle.of("ConfigMap") if thing["metadata"]["name"] in mounted]
        if not any((thing.get("data") or {}) == project.migrations for thing in maps):
            yield f"{name_of(job)} mounts no ConfigMap with exactly migrations/*.sql; is each in migrations/kustomization.yaml?"
        if job["metadata"]["name"] not in mounted:
            yield f"{name_of(job)} does not have its ConfigMap's name, so changed migrations could not be applied"
        if not job["spec"].get("ttlSecondsAfterFinished"):
            yield f"{name_of(job)} is never deleted"
        if job["spec"].get("activeDeadlineSeconds"):
            yield f"{name_of(job)} has a deadline, which would end a long index build"


FIRST = "app.kubernetes.io/component"


@rule
def upgrade(bundle, project):
    """Everything that migrates can be applied first: by its label from any overlay, and for ours as deploy/migrations."""
    first = [thing for thing in bundle.things if thing["metadata"].get("labels", {}).get(FIRST) == "migrations"]
    names = {name_of(thing) for thing in first}
    for job in bundle.of("Job"):
        pod = job["spec"]["template"]
        needed = {f"ConfigMap/{volume['configMap']['name']}" for volume in pod["spec"].get("volumes", []) if "configMap" in volume}
        for thing in bundle.of("NetworkPolicy"):
            chosen = thing["spec"]["podSelector"].get("matchLabels", {})
            if chosen and chosen.items() <= pod.get("metadata", {}).get("labels", {}).items():
                needed.add(name_of(thing))
        for name in sorted({name_of(job), *needed} - names):
            yield f"{name} has no label {FIRST}: migrations, so an upgrade could not apply it first"
    for thing in first:
        if thing["kind"] not in ("Job", "ConfigMap", "NetworkPolicy"):
            yield f"{name_of(thing)} has the label {FIRST}: migrations, so it would be applied before the migrations are done"
    # With CloudNativePG the Job reaches PostgreSQL in another way, and is applied by its label.
    if bundle.default and not bundle.of("Cluster") and sorted(map(str, first)) != sorted(map(str, project.first)):
        yield "deploy/migrations differs from this overlay, so an upgrade would apply two different Jobs"


@rule
def removal(bundle, _project):
    """Removal deletes every volume."""
    for thing in bundle.of("StatefulSet"):
        policy = thing["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        if thing["spec"].get("volumeClaimTemplates") and policy.get("whenDeleted") != "Delete":
            yield f"{name_of(thing)} does not delete its volumes"
