"""Rules on connections: selectors, ports, and what the network policies allow."""

from urllib.parse import urlsplit

from .bundle import name_of, selects
from .pods import app_containers, is_here, spin_variables
from .rules import rule


@rule
def selectors(bundle, _project):
    """Every selector matches something."""
    pods = bundle.pods()

    def nothing(selector):
        return not any(selects(selector, pod.labels) for pod in pods)

    for name, (selector, _) in bundle.services().items():
        if not selector or nothing(selector):
            yield f"Service/{name} selects no pod"
    for thing in bundle.of("PodDisruptionBudget"):
        if not thing["spec"].get("selector") or nothing(thing["spec"]["selector"]):
            yield f"{name_of(thing)} selects no pod"
    for thing in bundle.of("StatefulSet", "Deployment"):
        if not selects(thing["spec"]["selector"], thing["spec"]["template"]["metadata"].get("labels", {})):
            yield f"{name_of(thing)} does not select its own pods"
    for thing in bundle.of("StatefulSet"):
        if thing["spec"].get("serviceName") not in bundle.services():
            yield f"{name_of(thing)}: there is no Service/{thing['spec'].get('serviceName')}"
    for thing in bundle.of("HorizontalPodAutoscaler"):
        target = thing["spec"]["scaleTargetRef"]
        if target["kind"] != "Deployment" or target["name"] not in bundle.deployments():
            yield f"{name_of(thing)}: there is no {target['kind']}/{target['name']}"
    # If a store is elsewhere, rules for the one here may stay: they match nothing.
    complete = is_here(bundle, "redis_address") and is_here(bundle, "pg_address")
    for thing in bundle.of("NetworkPolicy") if complete else ():
        if nothing(thing["spec"]["podSelector"]):
            yield f"{name_of(thing)} selects no pod"
        for peer in _peers(thing):
            if "podSelector" in peer and "namespaceSelector" not in peer and nothing(peer["podSelector"]):
                yield f"{name_of(thing)} allows {peer['podSelector']}; no pod has these labels"


def _peers(policy):
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for one in policy["spec"].get(direction) or []:
            yield from one.get(key) or []


@rule
def ports(bundle, _project):
    """Every port that is named exists in a container."""
    pods = bundle.pods()
    for name, (selector, service_ports) in bundle.services().items():
        for port in service_ports:
            target = port.get("targetPort", port["port"])
            if not all(pod.has_port(target) for pod in pods if selects(selector, pod.labels)):
                yield f"Service/{name}: its pods have no port {target}"
    for pod in pods:
        for container in pod.spec["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port", 80 if not pod.ours else None)
                if port is not None and "httpGet" in container.get(probe, {}) and not pod.has_port(port):
                    yield f"{pod.owner}: {probe} asks port {port}, which the container does not have"
    for thing in bundle.of("NetworkPolicy"):
        yield from (f"{name_of(thing)}: {text}" for text in _policy_port_faults(thing, pods))
    for owner, service, port in _backends(bundle):
        if port not in [one["port"] for one in bundle.services().get(service, ({}, []))[1]]:
            yield f"{owner}: there is no port {port} at Service/{service}"


def _policy_port_faults(policy, pods):
    chosen = [pod for pod in pods if selects(policy["spec"]["podSelector"], pod.labels)]
    for one in policy["spec"].get("ingress") or []:
        for port in (one.get("ports") or []) if chosen else []:
            if not any(pod.has_port(port["port"], port.get("protocol", "TCP")) for pod in chosen):
                yield f"none of its pods has port {port['port']}"
    for one in policy["spec"].get("egress") or []:
        inside = [peer for peer in one.get("to") or [] if "podSelector" in peer and "namespaceSelector" not in peer]
        reached = [pod for pod in pods if any(selects(peer["podSelector"], pod.labels) for peer in inside)]
        for port in (one.get("ports") or []) if reached else []:
            if not any(pod.has_port(port["port"], port.get("protocol", "TCP")) for pod in reached):
                yield f"none of the pods that it may call has port {port['port']}"


def _backends(bundle):
    for thing in bundle.of("Ingress"):
        for one in thing["spec"]["rules"]:
            for path in one["http"]["paths"]:
                service = path["backend"]["service"]
                yield name_of(thing), service["name"], service["port"].get("number")
    for thing in bundle.of("HTTPRoute"):
        for one in thing["spec"]["rules"]:
            for backend in one.get("backendRefs", []):
                yield name_of(thing), backend["name"], backend["port"]


@rule
def entrance(bundle, project):
    """A host that leads to the service, on any controller; in the default overlay the one in Postman's cluster environment."""
    hosts = [one.get("host") for thing in bundle.of("Ingress") for one in thing["spec"]["rules"]]
    hosts += [host for thing in bundle.of("HTTPRoute") for host in thing["spec"].get("hostnames", [])]
    if not hosts or not all(hosts):
        yield f"the hosts are {hosts}: no client could call the service by name"
    if bundle.default and [f"http://{host}" for host in hosts] != [project.base_url]:
        yield f"the hosts are {hosts}, but Postman calls {project.base_url}"
    for thing in bundle.of("Ingress"):
        if thing["metadata"].get("annotations"):
            yield f"{name_of(thing)} has annotations, which only one controller reads"


@rule
def ways(bundle, _project):
    """Everything that is not needed is closed; everything that is needed is open at both ends."""
    policies = bundle.of("NetworkPolicy")
    denied = {
        kind
        for policy in policies
        if policy["spec"]["podSelector"] == {} and not policy["spec"].get("ingress") and not policy["spec"].get("egress")
        for kind in policy["spec"].get("policyTypes", [])
    }
    if denied != {"Ingress", "Egress"}:
        yield "no NetworkPolicy denies what no other one allows"
    pods = bundle.pods()
    for client, host, port in _calls(bundle):
        if not _resolves(policies, client):
            yield f"{client.owner} may not query DNS"
        if _is_outside(bundle, host):
            if not any(_leaves(one, port) for one in _applying(policies, client, "egress")):
                yield f"{client.owner} may not call {host} on port {port}"
            continue
        selector, service_ports = bundle.services().get(host, (None, []))
        if port not in [one["port"] for one in service_ports]:
            yield f"{client.owner} calls {host}:{port}, but there is no such Service and port"
            continue
        for server in (pod for pod in pods if selects(selector, pod.labels)):
            if not _allows(policies, client, server, port, "egress"):
                yield f"{client.owner} may not call {server.owner} on port {port}"
            if not _allows(policies, server, client, port, "ingress"):
                yield f"{server.owner} accepts nothing from {client.owner} on port {port}"
    for pod, _container in app_containers(bundle):
        if pod.is_intake and any(True for _ in _applying(policies, pod, "ingress")):
            yield f"{pod.owner} accepts calls, but nothing needs to call it"
        if not pod.is_intake and not any(_from_elsewhere(one) for one in _applying(policies, pod, "ingress")):
            yield f"{pod.owner} accepts nothing from the Ingress controller"
    for server in pods:
        if not any(True for _ in _applying(policies, server, "ingress")):
            continue
        if server.owner.startswith(("StatefulSet/", "Cluster/")) and any(
            not one.get("from") for one in _applying(policies, server, "ingress")
        ):
            yield f"{server.owner} accepts calls from anyone"


def _calls(bundle):
    """Which pod calls which address, according to its variables."""
    for pod, container in app_containers(bundle):
        given = spin_variables(container)
        for store in ("redis_address", "pg_address", "doorbell_address"):
            address = urlsplit(given.get(store, {}).get("value", ""))
            if address.hostname:
                yield pod, address.hostname, address.port
    for pod in bundle.pods():
        for container in pod.spec["containers"]:
            for variable in container.get("env", []):
                if variable["name"] in ("DATABASE_URL", "REDIS_URL"):
                    address = urlsplit(variable["value"])
                    yield pod, address.hostname, address.port or 5432


def _is_outside(bundle, host):
    """Whether it is a name with a dot, or an address, rather than the name of a Service."""
    return "." in host and host not in bundle.services()


def _leaves(one, port):
    """Whether an egress rule allows this port outside the namespace."""
    peers, ports = one.get("to"), [item["port"] for item in one.get("ports") or []]
    return (not peers or any("ipBlock" in peer or "namespaceSelector" in peer for peer in peers)) and (not ports or port in ports)


def _from_elsewhere(one):
    peers = one.get("from")
    return not peers or any("ipBlock" in peer or "namespaceSelector" in peer for peer in peers)


def _applying(policies, pod, direction):
    for policy in policies:
        if selects(policy["spec"]["podSelector"], pod.labels):
            yield from policy["spec"].get(direction) or []


def _allows(policies, pod, other, port, direction):
    key = "to" if direction == "egress" else "from"
    server = other if direction == "egress" else pod
    for one in _applying(policies, pod, direction):
        peers = one.get(key)
        known = not peers or any(
            "podSelector" in peer and "namespaceSelector" not in peer and selects(peer["podSelector"], other.labels)
            for peer in peers
        )
        wanted = [item["port"] for item in one.get("ports") or []]
        named = [item.get("name") for item in server.ports() if item["containerPort"] == port]
        if known and (not wanted or port in wanted or any(name in wanted for name in named if name)):
            return True
    return False


def _resolves(policies, pod):
    for one in _applying(policies, pod, "egress"):
        asked = {(item["port"], item.get("protocol", "TCP")) for item in one.get("ports") or []}
        there = any("namespaceSelector" in peer for peer in one.get("to") or [{"namespaceSelector": {}}])
        # 5353 in OpenShift
        if there and any({(port, "UDP"), (port, "TCP")} <= asked for port in (53, 5353)):
            return True
    return False
