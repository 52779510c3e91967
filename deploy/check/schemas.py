"""Strict schemas: Kubernetes' own from kubernetes-validate, those of the custom resources from crds.yaml."""

import functools
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate.utils import SchemaNotFoundError, schema_contents
from referencing import Registry, Resource

# The oldest and the newest version that the package knows and deploy/ supports.
KUBERNETES_VERSIONS = ("1.30", "1.37")
# The version that spin-operator 0.6.1 is built with: its CRDs embed these types.
CRD_TYPES = "1.33.0"


def faults(thing):
    """What an API server with strict field validation would refuse in one object."""
    return _faults_of_text(json.dumps(thing, sort_keys=True))


@functools.cache
def _faults_of_text(text):
    thing = json.loads(text)
    custom = _custom_schemas().get(f"{thing['apiVersion']}/{thing['kind']}")
    if custom is not None:
        validator = jsonschema.Draft202012Validator(custom, registry=_kubernetes_types())
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(thing)]
    found = []
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {error.json_path}: {error.message}")
        except SchemaNotFoundError as error:
            found.append(error.message)
    return found


@functools.cache
def _custom_schemas():
    schemas = yaml.safe_load((Path(__file__).parent / "crds.yaml").read_text())
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    return schemas


@functools.cache
def _kubernetes_types():
    definitions = schema_contents(f"kubernetes-json-schema/v{CRD_TYPES}-local-strict/_definitions.json", CRD_TYPES)
    return Resource.from_contents(definitions) @ Registry()
