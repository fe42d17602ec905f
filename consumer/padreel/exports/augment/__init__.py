"""The round trip through a remote video model."""
