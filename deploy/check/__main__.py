"""python -m check CHECKOUT KUBECTL: checks all overlays, components and examples of CHECKOUT/deploy, and that each rule still fails on broken manifests."""

import copy
import sys
from pathlib import Path

import yaml

from . import broken
from . import intake, links, network, pods, roles  # noqa: F401  (their rules register themselves)
from .bundle import load
from .project import Project
from .rules import RULES, complaints


# Ours, each of which has to go with each component. The first one is the default: the README installs it, and Postman calls it.
OVERLAYS = ("shim", "spintainer", "runtimeclass")
# The operator starts Spin's image with `--listen`, an option that the Redis trigger refuses.
WITHOUT = {"spintainer": {"intake"}}


def main(checkout, kubectl):
    deploy = Path(checkout, "deploy")
    project = Project.read(checkout, deploy / "secrets/secrets.env", load(kubectl, deploy / "migrations").things)
    components = sorted(file.parent.name for file in deploy.glob("components/*/kustomization.yaml"))
    bundles, failures = {}, []
    for overlay in OVERLAYS:
        fitting = [name for name in components if name not in WITHOUT.get(overlay, ())]
        for added in [(), *((one,) for one in fitting), tuple(fitting)]:
            name = " + ".join((overlay, *added))
            bundles[overlay, added] = load_with(kubectl, deploy / "overlays" / overlay, added, overlay == OVERLAYS[0])
            found = complaints(bundles[overlay, added], project)
            failures += [f"{name}: {rule}: {text}" for rule, text in found]
    others = sorted(file.parent for kind in ("examples", "overlays") for file in deploy.glob(f"{kind}/**/kustomization.yaml"))
    for folder in (one for one in others if one.name not in OVERLAYS):
        name = "/".join(folder.relative_to(deploy).parts[1:])
        bundles[name, ()] = load(kubectl, folder)
        failures += [f"{name}: {rule}: {text}" for rule, text in complaints(bundles[name, ()], project)]
    things = sum(len(bundle.things) for bundle in bundles.values())
    print(f"verify-deploy: {len(bundles)} bundles of {things} objects checked by {len(RULES)} rules")

    cases = broken.cases(Path(__file__).parent / "broken")
    failures += [f"rule {name} has no broken manifest" for name in RULES.keys() - {case.rule for case in cases}]
    for case in cases:
        bundle = copy.deepcopy(bundles[case.overlay, tuple(case.components)])
        case.apply(bundle)
        found = complaints(bundle, case.project(project))
        if not any(rule == case.rule and case.says in text for rule, text in found):
            failures.append(f"{case}: accepted, or refused for another reason: {found}")
    print(f"verify-deploy: {len(cases)} broken manifests tried")

    for failure in failures:
        print(f"verify-deploy: {failure}", file=sys.stderr)
    return 1 if failures else 0


def load_with(kubectl, folder, components, default):
    """Builds the overlay with these components added to its own file, as a user would add them."""
    file = folder / "kustomization.yaml"
    text = file.read_text()
    overlay = yaml.safe_load(text)
    present = overlay.get("components", [])
    wanted = [f"../../components/{name}" for name in components]
    if components:
        overlay["components"] = present + [folder for folder in wanted if folder not in present]
        file.write_text(yaml.safe_dump(overlay, sort_keys=False))
    try:
        return load(kubectl, folder, default)
    finally:
        file.write_text(text)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
