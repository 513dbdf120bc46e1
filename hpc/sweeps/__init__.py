"""Planning of a sweep, from its YAML to the runs that are to be made. Nothing here imports torch."""
