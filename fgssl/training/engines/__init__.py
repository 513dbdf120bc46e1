"""Engines, which spread a method, its gradient and its optimizer over processes."""
