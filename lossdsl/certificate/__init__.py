"""Certificates: what was proved of a loss, in a form that a small second program replays.

`lossdsl check --certificate OUT.json` writes the document, `lossdsl verify-certificate OUT.json` replays it. The checker
shares nothing with the provers of `lossdsl/verify` but the expression format (the IR) and the enclosures of operations: it
builds the program from the source text again, states each question from the source, and derives every line of a trace by
rules of its own. Finiteness and rounding errors are about what is compiled: that it takes from the compiler. Its rooms:
`question.py` what is asked, `bounds.py` enclosures of tensors, `rules.py` curvature and smoothness by composition,
`points.py` values at rational points, `safety.py`, `rounding.py` and `row_errors.py` float arithmetic, `document.py` the document and its
verification.
"""
