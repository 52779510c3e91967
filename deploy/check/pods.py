"""Rules on what runs: resources, references, variables, passwords, images, rights."""

import base64
import decimal
import json
import re
from urllib.parse import urlsplit

from .bundle import name_of
from .rules import rule
from .secrets_env import clients_fault

SUFFIXES = {"": 0, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12}
BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4}


def quantity(text):
    """The value of a Kubernetes quantity, or None."""
    parts = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", str(text))
    if not parts:
        return None
    number, suffix = decimal.Decimal(parts[1]), parts[2] or ""
    return number * 1024 ** BINARY[suffix] if suffix in BINARY else number.scaleb(SUFFIXES[suffix])


@rule
def quantities(bundle, _project):
    """Every container has requests and limits, in quantities that Kubernetes reads."""
    for pod in bundle.pods():
        for container in pod.spec["containers"]:
            yield from (f"{pod.owner}: container {container['name']}: {text}" for text in _resource_faults(container))
    for thing in bundle.of("StatefulSet"):
        for claim in thing["spec"].get("volumeClaimTemplates", []):
            size = claim["spec"]["resources"].get("requests", {}).get("storage")
            if quantity(size) is None or quantity(size) < 1024**2:
                yield f"{name_of(thing)}: volume {claim['metadata']['name']}: storage is {size}"
    for thing in bundle.of("Cluster"):
        if quantity(thing["spec"]["storage"]["size"]) is None:
            yield f"{name_of(thing)}: storage.size is {thing['spec']['storage']['size']}"


def _resource_faults(container):
    requests = container.get("resources", {}).get("requests", {})
    limits = container.get("resources", {}).get("limits", {})
    for resource in ("cpu", "memory"):
        least, most = quantity(requests.get(resource)), quantity(limits.get(resource))
        if least is None or most is None:
            yield f"{resource} has request {requests.get(resource)} and limit {limits.get(resource)}"
        elif least > most:
            yield f"{resource} has a request above its limit"
        # "128m" of memory is an eighth of a byte, and the API server warns.
        elif resource == "memory" and (least % 1 or most % 1 or most < 1024**2):
            yield f"memory limit {limits['memory']} is below a MiB, or not a whole number of bytes"


@rule
def memory(bundle, project):
    """The peak measured under load is below 70 % of the service's limit."""
    for pod, container in app_containers(bundle):
        if pod.is_intake:
            continue
        limit = quantity(container.get("resources", {}).get("limits", {}).get("memory"))
        if limit is not None and project.peak_mib * 1024**2 >= limit * 7 / 10:
            yield f"{pod.owner}: the memory limit is {limit / 1024**2:.0f} MiB, and {project.peak_mib} MiB of it were used under load (docs/bench/memory.json): above 70 %"


@rule
def references(bundle, _project):
    """Every secret, config map, key, volume and account that is named is in the bundle."""
    for pod in bundle.pods():
        for text in _missing_references(bundle, pod):
            yield f"{pod.owner}: {text}"
    for thing in bundle.of("Cluster"):
        roles = thing["spec"].get("managed", {}).get("roles", [])
        wanted = [thing["spec"]["bootstrap"]["initdb"]["secret"], *(role["passwordSecret"] for role in roles)]
        for secret in wanted:
            yield from _missing_key(bundle, "Secret", secret["name"], "username", name_of(thing))
            yield from _missing_key(bundle, "Secret", secret["name"], "password", name_of(thing))


def _missing_references(bundle, pod):
    account = pod.spec.get("serviceAccountName")
    if account and not bundle.find("ServiceAccount", account):
        yield f"there is no ServiceAccount/{account}"
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    owner = next((thing for thing in bundle.of("StatefulSet") if name_of(thing) == pod.owner), None)
    claims = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])} if owner else set()
    for container in pod.spec["containers"]:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes and mount["name"] not in claims:
                yield f"there is no volume {mount['name']}"
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for kind, key in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if key in source:
                    yield from _missing_key(bundle, kind, source[key].get("name"), source[key]["key"], variable["name"])
    for volume in volumes.values():
        for kind, key, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if key in volume:
                items = [item["key"] for item in volume[key].get("items", [])]
                for item in items or [None]:
                    yield from _missing_key(bundle, kind, volume[key].get(name), item, f"volume {volume['name']}")


def _missing_key(bundle, kind, name, key, where):
    holder = bundle.find(kind, name)
    if not holder:
        yield f"{where}: there is no {kind}/{name}"
    elif key and key not in {**(holder.get("data") or {}), **(holder.get("stringData") or {})}:
        yield f"{where}: {kind}/{name} has no key {key}"


def app_containers(bundle):
    """The containers that run the component, each with its pod."""
    for pod in bundle.pods():
        for container in pod.spec["containers"]:
            if any(variable["name"].startswith("SPIN_VARIABLE_") for variable in container.get("env", [])):
                yield pod, container


def spin_variables(container):
    prefix = "SPIN_VARIABLE_"
    given = [one for one in container.get("env", []) if one["name"].startswith(prefix)]
    return {one["name"].removeprefix(prefix).lower(): one for one in given}


# A variable of the same container. Kubernetes inserts the value of one defined before it, and leaves any other reference as it is.
REFERENCE = re.compile(r"\$\(([A-Za-z0-9_]+)\)")


def is_here(bundle, store):
    """Whether redis_address or pg_address names a Service of the bundle."""
    addresses = [spin_variables(container).get(store, {}).get("value", "") for _, container in app_containers(bundle)]
    return any(urlsplit(address).hostname in bundle.services() for address in addresses)


@rule
def variables(bundle, project):
    """Each application gets each variable of its manifest, no other, and its secrets from secrets."""
    containers = list(app_containers(bundle))
    serving = [pod for pod, _container in containers if not pod.is_intake]
    if len(serving) != 1 or len(containers) > 2:
        yield f"{len(serving)} containers have Spin variables for the service and {len(containers) - len(serving)} for the intake, not one and one at most"
    for pod, container in containers:
        file, known = ("intake/spin.toml", project.intake_variables) if pod.is_intake else ("spin.toml", project.variables)
        given = spin_variables(container)
        # A variable that is empty by default may be left out.
        needed = {name for name, variable in known.items() if variable.get("default") != ""}
        for name in needed - given.keys():
            yield f"{pod.owner}: variable {name} of {file} is not set"
        for name in given.keys() - known.keys():
            yield f"{pod.owner}: {file} knows no variable {name}"
        for name, variable in given.items():
            yield from (f"{pod.owner}: variable {name} {text}" for text in _variable_faults(name, variable, known.get(name, {}), container))
    for pod in bundle.pods():
        for container in pod.spec["containers"]:
            named = [variable["name"] for variable in container.get("env", [])]
            yield from (f"{pod.owner}: {name} is set twice" for name in sorted(set(named)) if named.count(name) > 1)
            for place, variable in enumerate(container.get("env", [])):
                for name in REFERENCE.findall(variable.get("value", "")):
                    if name not in named[:place]:
                        yield f"{pod.owner}: {variable['name']} names $({name}), which is not defined before it"


def _variable_faults(name, variable, declared, container):
    value, secret = variable.get("value", ""), declared.get("secret")
    if ("value" in variable) == ("valueFrom" in variable):
        yield "needs either a value or a valueFrom"
    sources = [variable] + [one for one in container["env"] if one["name"] in REFERENCE.findall(value)]
    if secret and not any("secretKeyRef" in one.get("valueFrom", {}) for one in sources):
        yield "is a secret and must come from one"
    if name.endswith(("_seconds", "_ms")) and not value.isdigit():
        yield f"is '{value}', not a number"
    # Spin uses an address as an allowed host: it needs a port, and nothing after it. The trigger's address contains the password.
    scheme = name.endswith("_address") and declared.get("default", "").split("://")[0]
    pattern = rf"{scheme}{'s?' if scheme == 'redis' else ''}://{'([^/@]*@)?' if secret else ''}[^/@:]+:[0-9]+"
    if scheme and "value" in variable and not re.fullmatch(pattern, value):
        yield f"is '{value}', not {scheme}://host:port"


@rule
def passwords(bundle, project):
    """Passwords are only in the one secret that `make secrets` fills, and no other checkout can fill. CLIENTS may be empty."""
    installation = f"order/{base64.b64encode(project.passwords['INSTALLATION'].encode()).decode()}"
    for thing in bundle.things:
        text = json.dumps(thing) if thing["kind"] != "Secret" else ""
        for name, password in project.passwords.items():
            if password and (password in text or base64.b64encode(password.encode()).decode() in text):
                yield f"{name_of(thing)} contains {name} in plain text"
    for thing in bundle.of("Secret"):
        held = {key: base64.b64decode(value).decode() for key, value in (thing.get("data") or {}).items()}
        for key, value in {**held, **(thing.get("stringData") or {})}.items():
            # Digests of random tokens give none of them away.
            is_digests = key == "CLIENTS" and not clients_fault(value)
            is_public = key == "username" or is_digests or value.startswith("-----BEGIN CERTIFICATE-----")
            if not is_public and value not in project.passwords.values():
                yield f"{name_of(thing)}: {key} is not from `make secrets`"
            elif not is_public and not (thing.get("immutable") or thing.get("type") == installation):
                yield f"{name_of(thing)}: `kubectl apply` from another checkout would overwrite the passwords: it is neither immutable nor of the installation's type"
                break
    for pod in bundle.pods():
        for container in pod.spec["containers"]:
            for variable in container.get("env", []):
                if re.search("PASSWORD|SECRET|TOKEN", variable["name"]) and variable.get("value"):
                    yield f"{pod.owner}: {variable['name']} has a literal value"
                if re.search(r"://[^/@]*:[^/@]+@", REFERENCE.sub("", variable.get("value") or "")):
                    yield f"{pod.owner}: {variable['name']} has a password in its address"


@rule
def images(bundle, _project):
    """Every image has a tag that identifies its build."""
    ours = [container["image"] for _pod, container in app_containers(bundle)]
    for image in ours:
        # Our own images: 7 is enough, but latest or main is only today's build.
        if not re.search(r":[^/:]*[0-9][^/:]*$|@sha256:[0-9a-f]{64}$", image):
            yield f"image {image} has no fixed tag"
    found = [(pod.owner, one["image"]) for pod in bundle.pods() for one in pod.spec["containers"] if one["image"] not in ours]
    for executor in bundle.of("SpinAppExecutor"):
        if "spinImage" in executor["spec"].get("deploymentConfig", {}):
            found.append((name_of(executor), executor["spec"]["deploymentConfig"]["spinImage"]))
    for owner, image in found:
        # Other images: at least two numbers, or a digest: `17` moves with every release.
        if not re.search(r":[^/:]*[0-9]+\.[0-9]+[^/:]*$|@sha256:[0-9a-f]{64}$", image):
            yield f"{owner}: image {image} has no fixed tag"


@rule
def hardening(bundle, _project):
    """Our own pods run without root or other rights and can write only to their volumes; each service has probes."""
    for account in bundle.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)} exposes its token"
    for pod in bundle.pods():
        if not pod.owner.startswith(("Job/", "CronJob/", "Cluster/")) and not pod.is_intake:
            for container in pod.spec["containers"]:
                for probe in ("livenessProbe", "readinessProbe"):
                    if probe not in container:
                        yield f"{pod.owner}: container {container['name']} has no {probe}"
        if pod.ours:
            yield from (f"{pod.owner}: {text}" for text in _soft_spots(pod))


def _soft_spots(pod):
    context = pod.spec.get("securityContext", {})
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account token"
    # The shim's containers have other rules: it writes to their root.
    on_shim = "runtimeClassName" in pod.spec
    if on_shim and context.get("runAsUser") != 0:
        yield "does not run as user 0, the only user as which the shim starts"
    if not on_shim and (not context.get("runAsNonRoot") or not context.get("runAsUser")):
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    for container in pod.spec["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"container {container['name']} may gain privileges"
        kept = own.get("capabilities", {}).get("add", [])
        if own.get("capabilities", {}).get("drop") != ["ALL"] or set(kept) - {"NET_BIND_SERVICE" if on_shim else None}:
            yield f"container {container['name']} keeps capabilities"
        if on_shim and not kept:
            yield f"container {container['name']} drops all capabilities and adds none, so the shim keeps them all: add NET_BIND_SERVICE"
        if on_shim == bool(own.get("readOnlyRootFilesystem")):
            yield f"container {container['name']} {'cannot' if on_shim else 'can'} write to its root file system"
