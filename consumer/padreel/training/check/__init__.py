"""Checking session folders, shards and merged datasets, and mending shards."""
