"""Encoders: timm models, and the weights, freezing and BatchNorm that training needs."""
