"""Episode bundles."""
