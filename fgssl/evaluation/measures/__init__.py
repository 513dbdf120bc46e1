"""The measures, one a file: `fgssl.settings.measure` has their contract, `fgssl.settings.evaluation` their list."""
