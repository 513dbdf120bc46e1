"""Profiles of sites, and the resources and costs of jobs on them."""
