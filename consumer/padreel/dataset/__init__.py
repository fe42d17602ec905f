"""What is written: blocking I/O, one thread at a time per shard."""
