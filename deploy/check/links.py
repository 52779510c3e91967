"""The environment variables that Kubernetes creates for Services, and how the shim uses them.

    python -m check.links CHECKOUT KUBECTL OVERLAY

prints them for the service's pod, one NAME=value per line, with invented addresses.
"""

import sys
from pathlib import Path

from .bundle import load
from .pods import app_containers
from .project import Project
from .rules import rule

# In every pod of every cluster, whatever the pod's settings.
KUBERNETES = {"kubernetes": [{"name": "https", "port": 443}]}


def links(service, ports, address="10.96.0.10"):
    """The variables that one Service adds to every pod of the namespace."""
    prefix = _upper(service)
    made = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": ports[0]["port"]}
    for port in ports:
        if "name" in port:
            made[f"{prefix}_SERVICE_PORT_{_upper(port['name'])}"] = port["port"]
        protocol = port.get("protocol", "TCP")
        url, one = f"{protocol.lower()}://{address}:{port['port']}", f"{prefix}_PORT_{port['port']}_{protocol}"
        made.setdefault(f"{prefix}_PORT", url)
        made |= {one: url, f"{one}_PROTO": protocol.lower(), f"{one}_PORT": port["port"], f"{one}_ADDR": address}
    return {name: str(value) for name, value in made.items()}


def overridden(environment, variables):
    """The shim's rule: a variable of the container with the name of one of the application replaces it, even if SPIN_VARIABLE_... is set."""
    return {f"SPIN_VARIABLE_{name.upper()}": environment[name.upper()] for name in variables if name.upper() in environment}


def _upper(name):
    return name.replace("-", "_").upper()


@rule
def service_links(bundle, project):
    """No Service makes an environment variable that the shim would use as one of spin.toml."""
    for name, (_selector, ports) in bundle.services().items():
        for taken in overridden(links(name, ports), project.variables | project.intake_variables):
            yield f"Service/{name} makes the environment variable {taken.removeprefix('SPIN_VARIABLE_')}, which the shim uses as a variable of spin.toml"
            break
        else:
            if name != project.application and not name.startswith(f"{project.application}-"):
                yield f"Service/{name} may create an environment variable with the name of one in spin.toml, now or later: name it {project.application}-{name}"
    for name in project.variables:
        if name.endswith(("_port", "_host", "_addr")):
            yield f"variable {name} of spin.toml ends like those that Kubernetes creates for Services: another application's Service could replace it"
        if name.startswith(f"{project.application}_"):
            yield f"variable {name} of spin.toml begins like those that Kubernetes creates for the Services here"


def environment(bundle, project):
    """The variables of the service's pod beside its own."""
    (pod, _container), *_ = app_containers(bundle)
    services = {name: ports for name, (_selector, ports) in bundle.services().items()} if pod.spec.get("enableServiceLinks", True) else {}
    made = {}
    for index, (name, ports) in enumerate((KUBERNETES | services).items(), start=1):
        made |= links(name, ports, f"10.96.0.{index}")
    return made | overridden(made, project.variables)


def main(checkout, kubectl, overlay):
    deploy = Path(checkout, "deploy")
    bundle = load(kubectl, deploy / "overlays" / overlay)
    for name, value in environment(bundle, Project.read(checkout, deploy / "secrets/secrets.env")).items():
        print(f"{name}={value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
