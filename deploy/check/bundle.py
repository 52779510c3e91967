"""The output of `kubectl kustomize`, with the pods and services that operators will create from it."""

import dataclasses
import subprocess

import yaml

APP_NAME = "core.spinkube.dev/app-name"
# The SpinApp of components/intake, or the Deployment that is created from it.
INTAKE = "order-intake"


@dataclasses.dataclass
class Pod:
    """A pod template of the bundle, or one that an operator creates."""

    owner: str
    labels: dict
    spec: dict
    # False if an operator writes the template, so that only parts of it are ours.
    ours: bool = True

    @property
    def is_intake(self):
        return self.labels.get(APP_NAME) == INTAKE

    def ports(self):
        return [port for container in self.spec["containers"] for port in container.get("ports", [])]

    def has_port(self, wanted, protocol="TCP"):
        return any(
            wanted in (port.get("name"), port["containerPort"]) and port.get("protocol", "TCP") == protocol
            for port in self.ports()
        )


def name_of(thing):
    return f"{thing.get('kind')}/{thing.get('metadata', {}).get('name')}"


def load(kubectl, folder, default=False):
    """Builds a kustomization."""
    made = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SystemExit(f"verify-deploy: kubectl kustomize {folder}: {made.stderr.strip()}")
    return Bundle([thing for thing in yaml.safe_load_all(made.stdout) if thing], default)


class Bundle:
    def __init__(self, things, default=False):
        self.things = things
        # Whether it is the overlay that the README installs and Postman calls. Any other may choose its namespace and host.
        self.default = default

    @property
    def namespace(self):
        """The namespace of most objects, so that a complaint names the one that differs, not all the others."""
        named = [thing["metadata"].get("namespace") for thing in self.things]
        return max(set(named), key=named.count)

    def of(self, *kinds):
        return [thing for thing in self.things if thing["kind"] in kinds]

    def find(self, kind, name):
        return next((thing for thing in self.of(kind) if thing["metadata"].get("name") == name), None)

    def pods(self):
        pods = []
        for thing in self.of("StatefulSet", "Deployment", "Job", "CronJob"):
            spec = thing.get("spec", {})
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template", {})
            if template.get("spec", {}).get("containers"):
                labels = template.get("metadata", {}).get("labels", {})
                pods.append(Pod(name_of(thing), labels, template["spec"]))
        pods += [_pod_of_spin_app(thing) for thing in self.of("SpinApp")]
        pods += [_pod_of_cluster(thing) for thing in self.of("Cluster")]
        return pods

    def services(self):
        """Name to (selector, ports), including the services that operators create."""
        services = {}
        for thing in self.of("Service"):
            services[thing["metadata"]["name"]] = (thing["spec"].get("selector", {}), thing["spec"]["ports"])
        for thing in self.of("SpinApp"):
            name = thing["metadata"]["name"]
            services[name] = ({f"core.spinkube.dev/app.{name}.status": "ready"}, [{"port": 80, "targetPort": "http-app"}])
        for thing in self.of("Cluster"):
            selector, managed = {"cnpg.io/cluster": thing["metadata"]["name"]}, thing["spec"].get("managed", {}).get("services", {})
            kinds = {"rw", "r", "ro"} - set(managed.get("disabledDefaultServices", []))
            made = [f"{thing['metadata']['name']}-{kind}" for kind in sorted(kinds)]
            made += [service["serviceTemplate"]["metadata"]["name"] for service in managed.get("additional", [])]
            for name in made:
                services[name] = (selector, [{"name": "postgres", "port": 5432, "targetPort": 5432}])
        return services

    def deployments(self):
        """Names of the Deployments, including those that the operator creates."""
        return {thing["metadata"]["name"] for thing in self.of("Deployment", "SpinApp")}


def _pod_of_spin_app(app):
    name, spec = app["metadata"]["name"], app["spec"]
    labels = dict(spec.get("podLabels", {}))
    labels.update({APP_NAME: name, f"core.spinkube.dev/app.{name}.status": "ready"})
    container = {
        "name": name,
        "image": spec.get("image", ""),
        "env": [{**variable, "name": f"SPIN_VARIABLE_{variable['name'].upper()}"} for variable in spec.get("variables", [])],
        "ports": [{"name": "http-app", "containerPort": 80}],
        "resources": spec.get("resources", {}),
        "volumeMounts": spec.get("volumeMounts", []),
    }
    for check in ("liveness", "readiness"):
        if check in spec.get("checks", {}):
            container[f"{check}Probe"] = spec["checks"][check]
    pod = {"containers": [container], "volumes": spec.get("volumes", [])}
    if "serviceAccountName" in spec:
        pod["serviceAccountName"] = spec["serviceAccountName"]
    return Pod(name_of(app), labels, pod, ours=False)


def _pod_of_cluster(cluster):
    spec = cluster["spec"]
    labels = {"cnpg.io/cluster": cluster["metadata"]["name"]}
    container = {
        "name": "postgres",
        "image": spec.get("imageName", ""),
        "ports": [{"containerPort": 5432}, {"containerPort": 8000}],
        "resources": spec.get("resources", {}),
    }
    return Pod(name_of(cluster), labels, {"containers": [container]}, ours=False)


def selects(selector, labels):
    """Whether a Kubernetes label selector, or a plain map of labels, matches these labels."""
    if not set(selector) & {"matchLabels", "matchExpressions"}:
        selector = {"matchLabels": selector}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions") or []:
        values, here = one.get("values", []), labels.get(one["key"])
        fits = {
            "In": here in values,
            "NotIn": here not in values,
            "Exists": here is not None,
            "DoesNotExist": here is None,
        }[one["operator"]]
        if not fits:
            return False
    return True
