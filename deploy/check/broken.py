"""Broken manifests: a good bundle and one change that a rule must refuse. Each file of broken/ is named after its rule."""

import dataclasses
import re

import yaml

from .bundle import name_of


@dataclasses.dataclass
class Case:
    rule: str
    # A part of the expected complaint.
    says: str
    # Kind/name of the object to change; if the name is generated, the part before the hash.
    object: str = ""
    overlay: str = "shim"
    components: list = dataclasses.field(default_factory=list)
    # Path to value: spec.variables[name=pg_address].value, or spec.rules[0].host.
    set: dict = dataclasses.field(default_factory=dict)
    remove: list = dataclasses.field(default_factory=list)
    # Variables to add to those of spin.toml.
    variables: list = dataclasses.field(default_factory=list)
    # Removes the object from the bundle, moves it to the front, or adds another one.
    drop: bool = False
    first: bool = False
    add: dict | None = None

    def project(self, project):
        return dataclasses.replace(project, variables={**project.variables, **{name: {"default": ""} for name in self.variables}})

    def apply(self, bundle):
        if self.add:
            bundle.things.append(self.add)
        if not self.object:
            return
        named = [one for one in bundle.things if name_of(one) == self.object]
        hashed = [one for one in bundle.things if re.fullmatch(f"{self.object}-[a-z0-9]{{10}}", name_of(one))]
        (thing,) = named or hashed
        for path, value in self.set.items():
            parent, last = _walk(thing, path)
            parent[last] = value
        for path in self.remove:
            parent, last = _walk(thing, path)
            del parent[last]
        if self.drop or self.first:
            bundle.things.remove(thing)
        if self.first:
            bundle.things.insert(0, thing)


def cases(folder):
    found = []
    for file in sorted(folder.glob("*.yaml")):
        found += [Case(rule=file.stem, **case) for case in yaml.safe_load(file.read_text())]
    return found


def _walk(thing, path):
    """The container and the key of the last step, so that it can be set or deleted."""
    # A quoted step may contain dots: metadata.labels.'app.kubernetes.io/name'
    steps = [quoted or plain for quoted, plain in re.findall(r"'([^']+)'|([^.\[\]']+|\[[^\]]+\])", path)]
    for step in steps[:-1]:
        thing = thing[_key(thing, step)]
    return thing, _key(thing, steps[-1])


def _key(thing, step):
    if not step.startswith("["):
        return step
    step = step[1:-1]
    if "=" not in step:
        return int(step)
    field, value = step.split("=", 1)
    return next(index for index, item in enumerate(thing) if item[field] == value)
