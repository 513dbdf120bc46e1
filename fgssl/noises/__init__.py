"""Noises that Synthesized Pairs adds to features."""
