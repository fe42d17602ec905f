"""Messages of the package padreel.v1."""
