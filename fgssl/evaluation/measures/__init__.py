"""Measures, one per file; their contract is `fgssl.settings.measure`, their registry `fgssl.settings.evaluation`."""
