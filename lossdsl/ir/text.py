"""The text of the IR: printed from a program and parsed back to an identical one.

    program info_nce
      input q: real[n, d]
      param temperature: real in (0.0, _) = 0.07
      sim[n, m: n] = sum d . q[n, d] * k[m, d]
      ...
      output return = value

Real constants have a decimal point (`2.0`, `0.07`) or are a tight fraction (`1/3`), integer constants have none; an
index whose name is its extent is written once (`n` for `n: n`). A name that is not a word stands in backquotes. `let`
lines under a definition name shared or deep subexpressions; they are part of the text, not of the program.
"""

from lossdsl.ir.text_parse import TextError, parse_ir
from lossdsl.ir.text_print import kinds, print_definition, print_ir, print_scalar

__all__ = ["TextError", "kinds", "parse_ir", "print_definition", "print_ir", "print_scalar"]
