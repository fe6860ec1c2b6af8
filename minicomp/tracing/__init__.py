"""Tracing: from Python functions to graphs. Read `tensor`, `numpy_protocol`, `record`, `tracer`."""
