"""Prepared text that fits on no machine: shards at any address of fsspec, written in parallel and read through a bounded
cache.
"""
