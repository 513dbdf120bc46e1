"""Runs: from one config to one run folder."""
