"""What forebay measures, and how OpenTelemetry gets it."""
