"""Sweeps: their plans, and what runs them on one machine or on a cluster."""
