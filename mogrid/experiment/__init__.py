"""Experiments: runs at equal FLOPs in worker processes, and what their records say."""
