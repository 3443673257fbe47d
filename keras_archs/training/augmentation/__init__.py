"""Augmentation in the input pipeline: pure functions of (seed, image), for Dataset.map.

A seed is a tensor of two integers. The trainer makes it of (run seed, epoch, position), so that an example
looks the same whichever worker, thread or replica handles it. A function draws from its seed at most once for
each use number of `fold`; give each function of a chain a seed of its own, `fold(seed, 0)`, `fold(seed, 1)`
and so on.
"""
