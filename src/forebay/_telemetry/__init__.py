"""Metrics and spans: what forebay measures, recorded with the OpenTelemetry API."""
