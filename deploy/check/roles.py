"""Rules on the stores of the bundle: which roles log in, and how many connections they need. Stores elsewhere are unknown here."""

import base64
import re

from .bundle import INTAKE, name_of
from .pods import app_containers, is_here, spin_variables
from .rules import rule


@rule
def roles(bundle, _project):
    """Each login uses a role, a password and a database that PostgreSQL has. The password of Redis is checked too."""
    known, databases = {**_roles_of_init(bundle), **_roles_of_cluster(bundle)}, _databases(bundle)
    for owner, role, password, database in _logins(bundle) if is_here(bundle, "pg_address") else ():
        if role not in known:
            yield f"{owner} logs in as {role}, which PostgreSQL does not have"
        elif password is None or password != known[role]:
            yield f"{owner} logs in as {role} with a wrong password"
        if database not in databases:
            yield f"{owner} asks for database {database}, which PostgreSQL does not have"
    asked = [spin_variables(container).get("redis_password") for _, container in app_containers(bundle)]
    asked += [_variable(container, "REDISCLI_AUTH") for thing in bundle.of("CronJob") for container in _containers(thing["spec"]["jobTemplate"])]
    given = [_variable(container, "REDISCLI_AUTH") for thing in bundle.of("StatefulSet") for container in _containers(thing)]
    for password in (_value(bundle, one) for one in asked if is_here(bundle, "redis_address")):
        if password is None or password not in [_value(bundle, one) for one in given]:
            yield "the service's redis_password or the doorbell's REDISCLI_AUTH is not the password of Redis"


# Connections that a replica may open: Spin's pool for the service, one per worker for the intake.
POOL, WORKERS = 64, 16


@rule
def connections(bundle, _project):
    """PostgreSQL accepts the connections of each replica, including those of a rolling update."""
    if not is_here(bundle, "pg_address"):
        return
    most = {thing["metadata"]["name"]: thing["spec"].get("replicas", 1) for thing in bundle.of("SpinApp", "Deployment")}
    for thing in bundle.of("HorizontalPodAutoscaler"):
        most[thing["spec"]["scaleTargetRef"]["name"]] = thing["spec"]["maxReplicas"]
    # maxSurge is 25 %, rounded up; ten are for the migrations, the operator and people.
    needed = 10 + sum((WORKERS if name == INTAKE else POOL) * (count + -(-count // 4)) for name, count in most.items())
    allowed = [
        int(argument.removeprefix("max_connections="))
        for thing in bundle.of("StatefulSet")
        for container in thing["spec"]["template"]["spec"]["containers"]
        for argument in container.get("args", [])
        if re.fullmatch("max_connections=[0-9]+", argument)
    ]
    for thing in bundle.of("Cluster"):
        allowed.append(int(thing["spec"].get("postgresql", {}).get("parameters", {}).get("max_connections", 100)))
    if not allowed or min(allowed) < needed:
        yield f"max_connections is {min(allowed, default='not set')}, but {' + '.join(f'{count} replicas of {name}' for name, count in most.items())} may open {needed}"


def _logins(bundle):
    for pod, container in app_containers(bundle):
        given = {name: _value(bundle, variable) for name, variable in spin_variables(container).items()}
        yield pod.owner, given.get("pg_user"), given.get("pg_password"), given.get("pg_database")
    for thing in bundle.of("Job"):
        for container in _containers(thing):
            url = _value(bundle, _variable(container, "DATABASE_URL")) or ""
            parts = re.fullmatch(r"postgres://([^:@/]+)@[^/]+/([^?]+)(\?.*)?", url)
            role, database = (parts[1], parts[2]) if parts else (None, None)
            yield name_of(thing), role, _value(bundle, _variable(container, "PGPASSWORD")), database


def _init_scripts(bundle):
    """Each .sql of the image's first start, with the container that runs it."""
    for thing in bundle.of("StatefulSet"):
        for volume in thing["spec"]["template"]["spec"].get("volumes", []):
            holder = bundle.find("ConfigMap", volume.get("configMap", {}).get("name"))
            for name, text in (holder or {}).get("data", {}).items():
                if name.endswith(".sql"):
                    yield text, _containers(thing)[0]


def _roles_of_init(bundle):
    found = {}
    for text, container in _init_scripts(bundle):
        sources = dict(re.findall(r"(?m)^\\getenv (\w+) (\w+)$", text))
        for role, variable in re.findall(r"(?m)^CREATE ROLE (\w+) LOGIN PASSWORD :'(\w+)';$", text):
            found[role] = _value(bundle, _variable(container, sources.get(variable)))
    return found


def _roles_of_cluster(bundle):
    found = {}
    for thing in bundle.of("Cluster"):
        first = thing["spec"]["bootstrap"]["initdb"]
        named = [(first["owner"], first["secret"]["name"])]
        for role in thing["spec"].get("managed", {}).get("roles", []):
            named.append((role["name"], role["passwordSecret"]["name"]))
        for role, secret in named:
            # The secret also names the role; both must agree.
            if _secret(bundle, secret, "username") == role:
                found[role] = _secret(bundle, secret, "password")
    return found


def _databases(bundle):
    found = {name for text, _ in _init_scripts(bundle) for name in re.findall(r"(?m)^CREATE DATABASE (\w+) OWNER", text)}
    return found | {thing["spec"]["bootstrap"]["initdb"]["database"] for thing in bundle.of("Cluster")}


def _containers(thing):
    return thing["spec"]["template"]["spec"]["containers"]


def _variable(container, name):
    return next((one for one in container.get("env", []) if one["name"] == name), None)


def _value(bundle, variable):
    if not variable or "value" in variable:
        return variable and variable["value"]
    source = variable.get("valueFrom", {}).get("secretKeyRef", {})
    return _secret(bundle, source.get("name"), source.get("key"))


def _secret(bundle, name, key):
    data = (bundle.find("Secret", name) or {}).get("data", {})
    return base64.b64decode(data[key]).decode() if key in data else None
