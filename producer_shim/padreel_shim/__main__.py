"""`padreel-shim`, also `python -m padreel_shim`."""

from padreel_shim.cli import main

if __name__ == "__main__":
    main()
