"""What the rest of the checkout defines, for the rules to compare the manifests with."""

import dataclasses
import json
import tomllib
from pathlib import Path


@dataclasses.dataclass
class Project:
    application: str
    # The variables of spin.toml, and those of intake/spin.toml
    variables: dict
    intake_variables: dict
    # The channel that the intake's trigger listens on
    channel: str
    versions: dict
    migrations: dict
    passwords: dict
    base_url: str
    peak_mib: int
    # The objects of deploy/migrations
    first: list

    @staticmethod
    def read(root, secrets_env, first=()):
        root = Path(root)
        spin = tomllib.loads((root / "spin.toml").read_text())
        intake = tomllib.loads((root / "intake/spin.toml").read_text())
        postman = json.loads((root / "postman/cluster.postman_environment.json").read_text())
        return Project(
            application=spin["application"]["name"],
            variables=spin["variables"],
            intake_variables=intake["variables"],
            channel=intake["trigger"]["redis"][0]["channel"],
            versions=assignments(root / "versions.env"),
            migrations={path.name: path.read_text() for path in sorted((root / "migrations").glob("*.sql"))},
            passwords=assignments(secrets_env),
            base_url=next(value["value"] for value in postman["values"] if value["key"] == "baseUrl"),
            peak_mib=json.loads((root / "docs/bench/memory.json").read_text())["peak_mib"],
            first=list(first),
        )


def assignments(path):
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
