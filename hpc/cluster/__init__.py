"""From a planned sweep to jobs of a scheduler, and back from what became of them."""
