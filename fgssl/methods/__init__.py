"""Methods, one per file; their contract is `fgssl.methods.method`."""
