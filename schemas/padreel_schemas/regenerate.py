"""Generate the Python code of `padreel.v1` anew: `python -m padreel_schemas.regenerate`.

Needs grpcio-tools in the version below, which brings its own protoc: other versions generate other code, and the
generated code must run on every protobuf runtime from its own version on.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import sys
from pathlib import Path

GRPCIO_TOOLS = "1.73.1"
PROTOS = tuple(f"padreel_schemas/v1/{name}.proto" for name in ("episodes", "gamepad", "video"))
SOURCE_ROOT = Path(__file__).resolve().parent.parent


class GeneratorError(Exception):
    """protoc is missing, of another version, or refused a file."""


def generate(target: Path) -> list[Path]:
    """Write the modules and their stubs below `target`, a source root; return their paths.

    Raises GeneratorError.
    """
    try:
        from grpc_tools import protoc
    except ImportError as error:
        raise GeneratorError(f"grpcio-tools is not installed: pip install grpcio-tools=={GRPCIO_TOOLS}") from error
    found = importlib.metadata.version("grpcio-tools")
    if found != GRPCIO_TOOLS:
        raise GeneratorError(f"grpcio-tools {found} is installed, the generated code is made with {GRPCIO_TOOLS}")
    include = importlib.resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{SOURCE_ROOT}", f"-I{include}", f"--python_out={target}", f"--pyi_out={target}"]
    status = protoc.main([*arguments, *PROTOS])
    if status != 0:
        raise GeneratorError(f"protoc ended with status {status}")
    stems = [target / proto.removesuffix(".proto") for proto in PROTOS]
    return [stem.with_name(stem.name + suffix) for stem in stems for suffix in ("_pb2.py", "_pb2.pyi")]


def main() -> int:
    """Regenerate in place; the exit code is 1 where that is impossible."""
    try:
        for path in generate(SOURCE_ROOT):
            sys.stdout.write(f"{path.relative_to(SOURCE_ROOT)}\n")
    except GeneratorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
