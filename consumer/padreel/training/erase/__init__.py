"""Taking a player's recordings out of shards for good."""
