"""Run a planned sweep as jobs of a cluster's scheduler: observe, decide, apply."""
