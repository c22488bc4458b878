"""Servers and workers killed on purpose: real ones, in processes of their own.

What a test says here must hold however the blows fall; none of it depends on their order.
"""
