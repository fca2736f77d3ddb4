"""Schedules of processors: register tiles, pooling, elementwise functions."""
