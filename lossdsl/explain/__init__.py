"""`lossdsl check FILE --explain PROPERTY`: the proof, the counterexample, or what stands in the way, step by step."""

from lossdsl.explain.explanation import Explained, Explanation, explain

__all__ = ["Explained", "Explanation", "explain"]
