"""Benchmarks that compare what the monitor measures with what a simulator knows."""
