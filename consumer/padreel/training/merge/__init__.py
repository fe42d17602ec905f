"""Many shards as one dataset."""
