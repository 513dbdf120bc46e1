"""Data: sources, packed shards, and batches of crops."""
