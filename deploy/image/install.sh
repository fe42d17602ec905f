#!/bin/sh
# Installs padreel and what the consumer needs, pinned, into a new virtual environment: install.sh FOLDER
# The Dockerfile runs this, and so does a test. PYTHON is the interpreter, by default python3; it must have pip.
set -eu

target=$1
python=${PYTHON:-python3}
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
pins=$checkout/deploy/requirements
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

# What installs and builds is pinned too, and stays out of the target.
"$python" -m venv --without-pip "$tools/venv"
awk '/^[a-z]/ { ours = /^(hatchling|packaging|pathspec|pluggy|trove-classifiers|uv)==/ } ours' \
    "$pins/py311-without-lerobot.txt" > "$tools/tools.txt"
"$python" -m pip --python "$tools/venv/bin/python" install --quiet --disable-pip-version-check --require-hashes \
    --no-deps -r "$tools/tools.txt"
(cd "$checkout" && "$tools/venv/bin/hatchling" build --target wheel --directory "$tools/wheel")

"$python" -m venv --without-pip "$target"
install() {
    "$tools/venv/bin/uv" pip install --quiet --link-mode copy --python "$target/bin/python" --no-deps "$@"
}
install --require-hashes --requirement "$pins/image.txt"
install "$tools"/wheel/*.whl
