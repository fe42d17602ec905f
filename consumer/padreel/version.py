"""The version, for what tells it to others. Nothing else: it is read by the build too."""

__version__ = "0.1.0.dev0"
