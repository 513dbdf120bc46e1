"""Self-supervised and supervised pre-training for fine-grained recognition."""
