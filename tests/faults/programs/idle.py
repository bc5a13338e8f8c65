"""Does nothing: to see whether a tracer can be attached."""
