"""The public contract between rigs and padreel."""
