"""python portable.py OPENAPI: checks that tools for other languages can use the contract.

datamodel-codegen generated the module `models` from it: each example of the contract must be a value of its model.
"""

import sys

import models
import re2
import yaml

# Keywords that a generator ignores without a type beside them.
TYPED = {"const", "enum", "pattern", "format", "minLength", "maxLength", "minimum", "maximum", "items", "minItems", "maxItems", "properties"}
# The keys of a mapping under one of these are names of their own, not keywords.
NAMES = {"properties", "schemas", "parameters", "headers", "responses", "examples", "paths"}


def faults(node, path="", named=False):
    if isinstance(node, list):
        for index, entry in enumerate(node):
            yield from faults(entry, f"{path}/{index}")
    elif isinstance(node, dict):
        if not named and not path.endswith("/value"):
            yield from (f"{path}: {text}" for text in schema_faults(node))
        for key, value in node.items():
            if key not in ("example", "value", "default"):
                yield from faults(value, f"{path}/{key}", key in NAMES and not named)


def schema_faults(node):
    if TYPED & node.keys() and "type" not in node:
        yield f"no type beside {' and '.join(sorted(TYPED & node.keys()))}"
    if isinstance(node.get("pattern"), str):
        try:
            # Go and Rust have only this syntax.
            re2.compile(node["pattern"], options)
        except re2.error as error:
            yield f"RE2 refuses the pattern: {error.args[0]}"


def examples(node, shared):
    """Each example of a named schema, with the name."""
    if isinstance(node, list):
        for entry in node:
            yield from examples(entry, shared)
    elif isinstance(node, dict):
        reference = node["schema"].get("$ref", "") if isinstance(node.get("schema"), dict) else ""
        if reference:
            for name, example in node.get("examples", {}).items():
                resolved = shared[example["$ref"].rsplit("/", 1)[1]] if "$ref" in example else example
                yield reference.rsplit("/", 1)[1], name, resolved["value"]
        for value in node.values():
            yield from examples(value, shared)


options = re2.Options()
options.log_errors = False


def main(openapi):
    with open(openapi, encoding="utf-8") as file:
        contract = yaml.safe_load(file)
    found = list(faults(contract))
    count = 0
    for schema, name, value in examples(contract, contract["components"].get("examples", {})):
        count += 1
        try:
            getattr(models, schema).model_validate(value)
        except ValueError as error:
            found.append(f"example {name} is no {schema} to the generated model: {error}")
    for fault in found:
        print(f"contract: {openapi}{fault}" if fault.startswith("/") else f"contract: {fault}", file=sys.stderr)
    if not count:
        sys.exit("contract: no example was tried")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
