"""Gets the chat templates of real models that the sources of llama-cpp-python come with.

    python templates.py OUT     OUT/<model>.jinja
"""

import os
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "llama-cpp-python==0.3.36"


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", folder, PACKAGE], check=True)
        (name,) = os.listdir(folder)
        with tarfile.open(os.path.join(folder, name)) as tar:
            for member in tar:
                if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                    with open(os.path.join(out, os.path.basename(member.name)), "wb") as f:
                        f.write(tar.extractfile(member).read())
    print(len(os.listdir(out)), "templates")


main()
