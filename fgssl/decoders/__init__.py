"""Decoders: networks from features to images."""
