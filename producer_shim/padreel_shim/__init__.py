"""The recorder's shim: session folders and synthetic rigs to Kafka."""
