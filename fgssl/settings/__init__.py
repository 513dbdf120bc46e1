"""Settings that a user writes: one module for each section of the YAML, all without torch."""
