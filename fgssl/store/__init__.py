"""Files on disk: typed records, the run folder and its lease, the manifest, the plan. Nothing here imports torch."""
