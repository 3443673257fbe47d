"""Rewrites of a TFLite graph: each in its own file, exact, on patterns and not on names of ours."""

from converters.rewrite.table import REWRITES, Rewrite, apply_rewrites, choose_rewrites

__all__ = ["REWRITES", "Rewrite", "apply_rewrites", "choose_rewrites"]
