"""How pending entries become batches: when to flush, and what one flush commits. Pure."""
