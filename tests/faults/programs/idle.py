"""Do nothing. It is there to find out whether a tracer can be attached."""
