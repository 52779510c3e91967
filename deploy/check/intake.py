"""The rule on the intake of components/intake: what its trigger listens to, and what rings."""

import re
from urllib.parse import urlsplit

from .bundle import name_of
from .pods import REFERENCE, app_containers, spin_variables
from .rules import rule


@rule
def intake(bundle, project):
    """The intake has the service's settings, and a CronJob rings every minute at its Redis and on the channel of its manifest."""
    yield from _manifest_faults(project)
    served = next((spin_variables(container) for pod, container in app_containers(bundle) if not pod.is_intake), {})
    intakes = [(pod, container) for pod, container in app_containers(bundle) if pod.is_intake]
    rings = [(name_of(thing), thing["spec"], container) for thing in bundle.of("CronJob") for container in _containers(thing)]
    if len(intakes) != len(rings):
        yield f"{len(intakes)} intakes and {len(rings)} CronJobs that ring, not one each"
    for pod, container in intakes:
        given = spin_variables(container)
        yield from (f"{pod.owner}: {text}" for text in _setting_faults(given, served))
        yield from (f"{pod.owner}: has a {probe} but no port" for probe in ("livenessProbe", "readinessProbe") if probe in container)
        for owner, _spec, ringing in rings:
            if _store(_environment(ringing), "REDIS_URL") != _store(given, "redis_address"):
                yield f"{owner} rings at another Redis than the one of {pod.owner}"
    for owner, spec, container in rings:
        channels = re.findall(r"PUBLISH (\S+)", " ".join(container.get("args", [])))
        if channels != [project.channel]:
            yield f"{owner} rings on {channels}, and intake/spin.toml listens on {project.channel}"
        if spec["schedule"] != "* * * * *":
            yield f"{owner} rings at '{spec['schedule']}', not every minute"
        # A ring that hangs would block all later ones.
        if not spec["jobTemplate"]["spec"].get("activeDeadlineSeconds", 60) < 60:
            yield f"{owner} may still run when the next one is due"


def _manifest_faults(project):
    for name, here in project.variables.items():
        there = project.intake_variables.get(name)
        if there is None or any(here.get(field) != there.get(field) for field in ("default", "required", "secret")):
            yield f"intake/spin.toml does not declare the variable {name} as spin.toml does"
    for name in project.intake_variables.keys() - project.variables.keys() - {"doorbell_address"}:
        yield f"intake/spin.toml has a variable {name}, which spin.toml does not have"


def _setting_faults(given, served):
    # Another deadline may be intended. With any other difference two services would share one table.
    for name in sorted(given.keys() | served.keys()):
        if name != "doorbell_address" and not name.endswith("_ms") and _meant(given.get(name)) != _meant(served.get(name)):
            yield f"variable {name} differs from the service's"
    # If a secret has the address, its content is unknown here.
    if _store(given, "doorbell_address") not in (None, _store(given, "redis_address")):
        yield "doorbell_address is another Redis than redis_address"
    password = urlsplit(given.get("doorbell_address", {}).get("value", "")).password
    if password and REFERENCE.findall(password) != ["SPIN_VARIABLE_REDIS_PASSWORD"]:
        yield "the password in doorbell_address is not redis_password"


def _meant(variable):
    return variable and (variable.get("value"), variable.get("valueFrom"))


def _store(variables, name):
    """Host and port; None if a secret has them."""
    address = urlsplit(variables.get(name, {}).get("value", ""))
    return address.hostname and (address.hostname, address.port)


def _environment(container):
    return {variable["name"]: variable for variable in container.get("env", [])}


def _containers(cron_job):
    return cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
