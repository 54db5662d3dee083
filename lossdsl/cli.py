"""The command line: `lossdsl check | fix | verify-certificate | compile | bench | show | fmt | plot | new | catalogue | explain`.

Exit codes: 0 fine; 1 a claim is refuted (or unknown under --strict), or a file is not formatted or stale under
--check; 2 a file is wrong, or broke the compiler (E0901; LOSSDSL_DEBUG=1 shows where); 3 misuse; 130 interrupted. torch
is imported by `bench` alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import rich_click as click
from click.exceptions import Exit
from rich.console import Console

from lossdsl import __version__
from lossdsl.diagnostics import CODES, NOWHERE, Diagnostic, Severity, Source, printable, render
from lossdsl.files import write_atomically
from lossdsl.progress import Progress

if TYPE_CHECKING:
    from lossdsl import pipeline
    from lossdsl.advice import Rewrite

OK, REFUTED, WRONG_FILE, MISUSE, INTERRUPTED = 0, 1, 2, 3, 130

click.rich_click.TEXT_MARKUP = "rich"
click.rich_click.SHOW_ARGUMENTS = True


class Misuse(click.ClickException):
    """The command was called in a way that cannot work; exit code 3."""

    exit_code = MISUSE


class Output(Console):
    """A console that ends as other writers do when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class BrokenError(Exception):
    """The compiler broke one of its own rules on a file."""

    def __init__(self, source: Source, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.source, self.diagnostic = source, diagnostic


@contextmanager
def shield(source: Source) -> Iterator[None]:
    """Anything unexpected inside becomes a BrokenError with the diagnostic E0901 (with LOSSDSL_DEBUG=1 it stays)."""
    try:
        yield
    except (click.ClickException, Exit, click.Abort, BrokenPipeError, BrokenError):
        raise
    except Exception as problem:
        if os.environ.get("LOSSDSL_DEBUG") == "1":
            raise
        raise BrokenError(source, internal(problem)) from None


def internal(problem: Exception) -> Diagnostic:
    """E0901 for an exception that should not have come up."""
    first = printable(str(problem).split("\n")[0])[:300]
    message = f"internal error: {type(problem).__name__}{': ' + first if first else ''}"
    return Diagnostic("E0901", message, NOWHERE, "please report it with this file; LOSSDSL_DEBUG=1 shows where it was")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lossdsl")
def cli() -> None:
    """Write a loss as in the paper, see what is true of it, get a fast PyTorch or Triton module.

    Example: lossdsl check examples/classification/focal.loss

    Exit codes: 0 fine, 1 a claim is refuted (or unknown under --strict), 2 a file is wrong, 3 misuse.
    """


def load(path: str) -> tuple[Source, list[Diagnostic]]:
    from lossdsl.catalogue import find
    from lossdsl.syntax.source import read_source

    return read_source(find(path)[0])


def split_name(argument: str) -> tuple[str, str | None]:
    """`f.loss:huber` is the loss `huber` of `f.loss`."""
    head, colon, tail = argument.rpartition(":")
    if colon and head and tail.isidentifier() and not Path(argument).exists():
        return head, tail
    return argument, None


def complain(source: Source, diagnostics: Sequence[Diagnostic]) -> None:
    console = Output(stderr=True, highlight=False, soft_wrap=True)
    for d in diagnostics:
        head, *rest = render(source, d).split("\n")
        style = "bold red" if d.severity is Severity.ERROR else "bold yellow"
        console.print(head, style=style, markup=False)
        for line in rest:
            console.print(line, markup=False)


def has_errors(diagnostics: Sequence[Diagnostic]) -> bool:
    return any(d.severity is Severity.ERROR for d in diagnostics)


@cli.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the report card.")
@click.option("--strict", is_flag=True, help="A claim that stays unknown fails too.")
@click.option("--effort", type=click.FloatRange(0.1, 1000), default=1.0, show_default=True, help="Multiplies budgets.")
@click.option("--certificate", metavar="OUT.json", help="Write the proofs of one FILE, for `verify-certificate`.")
@click.option(
    "--explain", "question", metavar="PROPERTY", help="Instead: why it has the property, or not, step by step."
)
@click.option("--latex", is_flag=True, help="With --explain: as LaTeX.")
def check(
    files: tuple[str, ...],
    as_json: bool,
    strict: bool,
    effort: float,
    certificate: str | None,
    question: str | None,
    latex: bool,
) -> None:
    """Say what is true of each loss, and decide its claims.

    Example: lossdsl check examples/regression/huber.loss

    A claim that is refuted fails with its counterexample; `-` reads standard input.

    Example: lossdsl check huber --explain "convex in pred"

    PROPERTY is a claim, or a line of the report card. The answer is no failure, whatever it is.
    """
    from lossdsl import card, pipeline

    if not effort >= 0.1:
        raise Misuse("--effort is a number from 0.1 to 1000")
    if question is not None:
        if as_json or certificate is not None or strict:
            raise Misuse("--explain goes with --effort and --latex alone")
        sys.exit(max(explained(f, question, effort, latex) for f in files))
    if latex:
        raise Misuse("--latex belongs to --explain")
    if certificate is not None and len(files) != 1:
        raise Misuse("--certificate belongs to one file")
    worst, entries, broken_off = OK, [], ""
    console = Output(highlight=False)
    for argument in files:
        path, only = split_name(argument)
        source, found = load(path)
        checked: pipeline.Checked | None = None
        if not found:
            try:
                with shield(source):
                    with Progress() as progress:
                        checked = pipeline.check(source, effort=effort, only=only, watch=progress)
                    found = list(checked.diagnostics)
            except BrokenError as broken:
                found = [broken.diagnostic]
        reports = checked.reports if checked else ()
        broken_off = checked.broken_off if checked is not None else ""
        rewrites: tuple[Rewrite, ...] = ()
        if checked is not None and reports and not broken_off:
            try:
                rewrites = advised(source, checked.analysis)
            except KeyboardInterrupt:
                broken_off = "advice"
        if has_errors(found):
            worst = max(worst, WRONG_FILE)
        statuses = [c.status for r in reports for c in r.claims]
        if "refuted" in statuses or (strict and "unknown" in statuses):
            worst = max(worst, REFUTED)
        if as_json:
            entries.append(card.file_json(path, found, reports, rewrites))
            if broken_off:
                break
            continue
        complain(source, found)
        for report in reports:
            card.print_card(console, report, path, rewrites)
        if broken_off:
            break
    if broken_off:
        if as_json:
            click.echo(json.dumps({"version": 1, "files": entries}, indent=2, ensure_ascii=False))
        click.echo(f"interrupted at {printable(broken_off)}; nothing further is decided", err=True)
        sys.exit(INTERRUPTED)
    if certificate is not None and checked is not None and reports:
        from lossdsl.certificate.document import certify

        with shield(source):
            document = certify(source, checked.analysis.losses, reports)
        write(Path(certificate), json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        click.echo(f"wrote {certificate}", err=True)
    if as_json:
        click.echo(json.dumps({"version": 1, "files": entries}, indent=2, ensure_ascii=False))
    sys.exit(worst)


def advised(source: Source, analysis: pipeline.Analysis) -> tuple[Rewrite, ...]:
    """What to write instead, of a file without errors."""
    from lossdsl.advice import advise

    with shield(source), Progress() as progress:
        progress("advice")
        return advise(source, analysis).rewrites


@cli.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--diff", "only_diff", is_flag=True, help="Change nothing; print what would change.")
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 1 if there is something to fix.")
def fix(files: tuple[str, ...], only_diff: bool, only_check: bool) -> None:
    """Write what `check` advises: the same functions, proved equal, in forms that stay finite and keep their digits.

    Example: lossdsl fix my_loss.loss --diff

    Only the expressions are changed; comments and layout stay. `-` reads standard input and prints the result.
    """
    sys.exit(max(fixed(path, only_diff, only_check) for path in files))


def fixed(path: str, only_diff: bool, only_check: bool) -> int:
    """Fix one file; the exit code."""
    from lossdsl.advice import advise
    from lossdsl.advice.edit import difference, with_ends
    from lossdsl.pipeline import analyse

    if path != "-" and not Path(path).exists() and load(path)[0].path != path:
        raise Misuse(f"{path} is a loss of the catalogue; `lossdsl new NAME --from {path}` makes a file of it")
    source, problems = load(path)
    with shield(source):
        analysis = None if problems else analyse(source)
        problems = problems or list(analysis.diagnostics if analysis else ())
        failed = has_errors(problems)
        with Progress() as progress:
            progress("advice")
            advice = None if failed else advise(source, analysis, effort=10.0)
    if failed or advice is None:
        complain(source, problems)
        return WRONG_FILE
    for r in advice.rewrites:
        click.echo(f"{path}:{r.line}: {printable(r.before)} -> {printable(r.after)} ({printable(r.why)})", err=True)
    if not advice.complete:
        click.echo(f"{path}: there was no time to try everything", err=True)
    elif advice.text == source.text:
        click.echo(f"{path}: nothing to fix", err=True)
    if path == "-" and not (only_diff or only_check):
        click.echo(advice.text, nl=False)
        return OK
    if advice.text == source.text:
        return OK
    if not only_check:
        click.echo(difference(source.text, advice.text, printable(path)), nl=False)
    if not (only_check or only_diff):
        raw = Path(path).read_bytes().decode("utf-8")
        write(Path(path).resolve(), with_ends(raw, source.text, advice.text))
        click.echo(f"fixed {path}", err=True)
    return REFUTED if only_check else OK


def explained(argument: str, question: str, effort: float, latex: bool) -> int:
    """Print why the losses of a file have a property; the exit code."""
    from lossdsl.explain import explain as told

    path, only = split_name(argument)
    source = readable(path)
    with shield(source):
        found = told(source, question, only=only, effort=effort)
    complain(found.source, found.diagnostics)
    if has_errors(found.diagnostics):
        return MISUSE if found.source is not source else WRONG_FILE
    for explanation in found.explanations:
        click.echo(explanation.latex() if latex else f"{explanation.text()}\n")
    if not found.explanations:
        raise Misuse(f"{path} has no loss to be asked about")
    return MISUSE if all(e.meaningless for e in found.explanations) else OK


@cli.command("verify-certificate")
@click.argument("file")
def verify_certificate(file: str) -> None:
    """Replay the proofs and counterexamples of a certificate by a second program.

    Example: lossdsl verify-certificate huber.json

    Exit code 1 and the failing step where one does not hold.
    """
    from lossdsl.certificate.document import TRUSTED, Rejected, verify

    try:
        document = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise Misuse(f"{file} cannot be read as JSON: {problem}") from None
    try:
        checked = verify(document)
    except Rejected as reason:
        click.echo(f"rejected: {printable(str(reason))}", err=True)
        sys.exit(REFUTED)
    click.echo(
        f"{checked.entries} proofs and counterexamples hold; {len(checked.without)} verdicts have no certificate:"
    )
    for line in checked.without:
        click.echo(f"  {printable(line)}")
    click.echo(f"trusted: {'; '.join(TRUSTED)}")


@cli.command()
@click.argument("file")
@click.option("--target", type=click.Choice(["torch", "triton"]), default="torch", show_default=True)
@click.option("-o", "--output", "output", help="Where to write the module; standard output if not given.")
@click.option("--check", "stale", metavar="OUT.py", help="Only say whether OUT.py is what FILE compiles to now.")
@click.option("--force", is_flag=True, help="Overwrite a file that lossdsl did not write.")
@click.option("--native/--no-native", default=False, help="With C++ for CPU tensors, built when it is first used.")
def compile(file: str, target: str, output: str | None, stale: str | None, force: bool, native: bool) -> None:
    """Write a standalone Python module (it imports torch, never lossdsl).

    Example: lossdsl compile examples/regression/huber.loss --target torch -o huber.py
    """
    from lossdsl import pipeline

    if native and target != "torch":
        raise Misuse("--native belongs to --target torch")
    path, only = split_name(file)
    source = readable(path)
    with shield(source):
        compiled = pipeline.compile(source, target=target, only=only, native=native)
    complain(source, compiled.diagnostics)
    if compiled.text is None:
        sys.exit(WRONG_FILE)
    for note in compiled.notes:
        click.echo(f"note: {note}", err=True)
    refuted = [c for r in compiled.reports for c in r.claims if c.status == "refuted"]
    for claim in refuted:
        click.echo(f"refuted: {path}:{claim.line}: {claim.text}", err=True)
    if refuted:
        click.echo("nothing was written; `lossdsl check` shows the counterexample", err=True)
        sys.exit(REFUTED)
    if stale is not None:
        fresh = Path(stale).is_file() and Path(stale).read_bytes() == compiled.text.encode()
        click.echo(f"{stale} is {'up to date' if fresh else 'stale'}")
        sys.exit(OK if fresh else REFUTED)
    if output is None:
        click.echo(compiled.text, nl=False)
        return
    out = Path(output)
    if out.exists() and not out.is_file():
        raise Misuse(f"{output} is a {'folder' if out.is_dir() else 'device'}, no file")
    if out.exists() and not force and not generated(out):
        raise Misuse(f"{output} was not written by lossdsl; --force overwrites it")
    write(out, compiled.text)
    click.echo(f"wrote {output}", err=True)


@cli.command()
@click.argument("file")
@click.option(
    "--emit",
    required=True,
    type=click.Choice(["tree", "ir", "grad", "plan", "sympy", "latex", "torch", "triton"]),
    help="The stage to print.",
)
@click.option("--why", is_flag=True, help="With --emit plan: the rule behind each decision.")
@click.option(
    "--target",
    type=click.Choice(["torch", "triton", "native"]),
    default="torch",
    help="With --emit plan; native: that of compiled kernels on a CPU.",
)
def show(file: str, emit: str, why: bool, target: str) -> None:
    """Print a stage of the pipeline.

    Example: lossdsl show examples/regression/huber.loss --emit grad
    """
    from lossdsl import pipeline

    path, only = split_name(file)
    source = readable(path)
    with shield(source):
        shown = pipeline.show(source, emit, only=only, why=why, target=target)
    complain(source, shown.diagnostics)
    if shown.text is None:
        sys.exit(WRONG_FILE)
    click.echo(shown.text)


@cli.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 1 if a file is not formatted.")
def fmt(files: tuple[str, ...], only_check: bool) -> None:
    """Format files in place; there are no options, and comments stay.

    Example: lossdsl fmt examples/regression/huber.loss
    """
    from lossdsl.syntax.format import format_module
    from lossdsl.syntax.parser import parse

    worst = OK
    for path in files:
        source, problems = load(path)
        with shield(source):
            module, found = parse(source)
            problems = problems or found
            text = "" if has_errors(problems) else format_module(module)
        complain(source, problems)
        if has_errors(problems):
            worst = max(worst, WRONG_FILE)
            continue
        if path == "-" and not only_check:
            click.echo(text, nl=False)
        elif text != source.text:
            if only_check:
                click.echo(f"{'standard input' if path == '-' else path} would be formatted")
                worst = max(worst, REFUTED)
            else:
                write(Path(path), text)
                click.echo(f"formatted {path}", err=True)
    sys.exit(worst)


@cli.command()
@click.argument("file")
@click.option("-o", "--output", "output", required=True, metavar="OUT.png", help="PNG, SVG or PDF.")
@click.option("--of", "wrt", help="The input or learnable value to vary; the first that changes the loss if not given.")
def plot(file: str, output: str, wrt: str | None) -> None:
    """Draw the loss and its gradient against the residual or the margin, kinks marked.

    Example: lossdsl plot examples/regression/huber.loss -o huber.png
    """
    from lossdsl import plotting

    path, only = split_name(file)
    source = readable(path)
    with shield(source):
        try:
            diagnostics = plotting.plot(source, Path(output), only=only, wrt=wrt)
        except plotting.CannotPlot as problem:
            raise Misuse(str(problem)) from None
        except OSError as problem:
            raise Misuse(f"cannot write {output}: {problem.strerror or problem}") from None
    complain(source, diagnostics)
    if has_errors(diagnostics):
        sys.exit(WRONG_FILE)
    click.echo(f"wrote {output}", err=True)


@cli.command()
@click.argument("file")
@click.option("--shape", metavar="n=4096,c=8192", default="", help="Extents; `...=64x64` for the axes that stay open.")
@click.option("--peer", metavar="module:function", help="Also measure this function, called with the inputs in order.")
@click.option(
    "--wrt", metavar="NAMES", default="", help="Inputs that get a gradient, with commas; the first if not given."
)
@click.option("--dtype", type=click.Choice(["float32", "float64", "float16", "bfloat16"]), default="float32")
@click.option("--device", default="cpu", show_default=True)
@click.option("--target", type=click.Choice(["torch", "triton"]), default="torch", show_default=True)
@click.option("--native", is_flag=True, help="With the C++ kernels of `compile --native`.")
@click.option("--no-compile", is_flag=True, help="Leave torch.compile out: it takes long to build.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=15, show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), help="Of torch on a CPU.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
def bench(
    file: str,
    shape: str,
    peer: str | None,
    wrt: str,
    dtype: str,
    device: str,
    target: str,
    native: bool,
    no_compile: bool,
    rounds: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure value and gradient of a loss beside the same formula in torch and in torch.compile.

    Example: lossdsl bench cross_entropy --shape n=4096,c=8192 --peer torch.nn.functional:cross_entropy
    """
    path, only = split_name(file)
    source = readable(path)
    extents = parsed_shape(shape)
    from lossdsl import pipeline

    if native and target != "torch":
        raise Misuse("--native belongs to --target torch")
    with shield(source):
        analysis = pipeline.analyse(source, only)
    complain(source, analysis.diagnostics)
    if has_errors(analysis.diagnostics):
        sys.exit(WRONG_FILE)
    if len(analysis.losses) != 1:
        raise Misuse(f"{len(analysis.losses)} losses: name one as FILE:NAME")
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # its profiler, which counts the memory, talks otherwise
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        from lossdsl import bench as benches
    except ImportError:
        raise Misuse("bench runs the loss: it needs torch (pip install 'lossdsl[torch]')") from None
    names = tuple(n.strip() for n in wrt.split(",") if n.strip())
    options = benches.Options(extents, dtype, device, target, native, not no_compile, peer, names, rounds, threads)
    with shield(source):
        try:
            table = benches.bench(source, analysis.losses[0], options)
        except benches.CannotBench as problem:
            raise Misuse(str(problem)) from None
    if as_json:
        click.echo(json.dumps(benches.as_json(table), indent=2, ensure_ascii=False))
    else:
        benches.show(Console(highlight=False), table)


def parsed_shape(text: str) -> dict[str, int | tuple[int, ...]]:
    """`n=4096,...=64x64` as extents."""
    found: dict[str, int | tuple[int, ...]] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, size = part.partition("=")
        numbers = size.split("x")
        if not equals or not name.strip() or not all(n.strip().isdecimal() for n in numbers):
            raise Misuse(f"--shape {part!r}: write axis=number, as in n=4096,c=8192")
        sizes = tuple(int(n) for n in numbers)
        if len(sizes) > 1 and name.strip() != "...":
            raise Misuse(f"--shape {part!r}: only `...` stands for several axes")
        found[name.strip()] = sizes if name.strip() == "..." else sizes[0]
    return found


NEW = '''loss {name}:
    """What the loss is (author, year)."""
    input pred, target: real[...]
    param scale: real > 0 = 1

    per = ((pred - target) / scale)^2
    return mean(per)

    claim convex in pred
    claim per >= 0
'''


@cli.command()
@click.argument("name")
@click.option("--from", "origin", metavar="LOSS", help="A file, or a loss of the catalogue, to start from.")
def new(name: str, origin: str | None) -> None:
    """Write a small loss to start from, as NAME.loss in the current folder.

    Example: lossdsl new my_loss --from focal
    """
    from lossdsl.syntax.parser import parse

    path = Path(f"{name}.loss")
    text = NEW.format(name=name) if origin is None else renamed(readable(origin), name)
    if not (name.isascii() and name.isidentifier()) or has_errors(parse(Source(str(path), text))[1]):
        raise Misuse(f"'{name}' cannot be the name of a loss: use letters, digits and _, and no reserved word")
    if path.exists():
        raise Misuse(f"{path} is there already")
    write(path, text)
    click.echo(f"wrote {path}; next: lossdsl check {path}", err=True)


def renamed(source: Source, name: str) -> str:
    """The text of a file with one loss, under another name."""
    from lossdsl.syntax.parser import parse
    from lossdsl.syntax.tree import Loss

    module, problems = parse(source)
    losses = [item for item in module.items if isinstance(item, Loss)]
    if has_errors(problems) or len(losses) != 1:
        raise Misuse(f"{source.path} must be a file with exactly one loss")
    lines = source.text.split("\n")
    span = losses[0].name.span
    row, column = span.line - 1, span.column - 1
    lines[row] = lines[row][:column] + name + lines[row][column + len(losses[0].name.name) :]
    return "\n".join(lines)


@cli.command()
@click.option("--field", help="Only the losses of one field.")
@click.option("--search", "word", default="", metavar="WORD", help="Only those with the word in name or title.")
def catalogue(field: str | None, word: str) -> None:
    """List the losses that are shipped; each can be loaded, checked and compiled by its name.

    Example: lossdsl catalogue --search dice
    """
    from difflib import get_close_matches

    from lossdsl.catalogue import entries, search

    fields = sorted({e.field for e in entries()})
    if field is not None and field not in fields:
        close = get_close_matches(field, fields, n=1)
        raise Misuse(
            f"there is no field {field}; {f'did you mean {close[0]}?' if close else 'fields: ' + ', '.join(fields)}"
        )
    console, last = Output(highlight=False, soft_wrap=True), None
    found = search(word, field)
    width = max((len(e.name) for e in found), default=0)
    for e in found:
        if e.field != last:
            console.print(e.field, style="bold", markup=False)
            last = e.field
        console.print(f"  {e.name:{width}}  {printable(e.title)}", markup=False)
    if not found:
        raise Misuse(f"no loss has '{printable(word)}' in its name or title")


@cli.command()
@click.argument("code")
def explain(code: str) -> None:
    """Explain a diagnostic code.

    Example: lossdsl explain E0101
    """
    known = CODES.get(code.upper())
    if known is None:
        raise Misuse(f"there is no diagnostic {code}; codes are {', '.join(sorted(CODES))}")
    click.echo(f"{code.upper()}: {known.title}\n\n{known.explanation}")


def readable(path: str) -> Source:
    source, problems = load(path)
    if problems:
        complain(source, problems)
        sys.exit(WRONG_FILE)
    return source


def generated(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            return "lossdsl" in stream.readline()
    except (OSError, UnicodeDecodeError):
        return False


def write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as problem:
        raise Misuse(f"cannot write {path}: {problem.strerror or problem}") from None


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. Misuse, click's usage errors included, exits with 3."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(args=given or ["--help"], prog_name="lossdsl", standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        sys.exit(MISUSE)
    except Exit as ended:
        sys.exit(ended.exit_code if given else MISUSE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(OK)
    except BrokenError as broken:
        complain(broken.source, [broken.diagnostic])
        sys.exit(WRONG_FILE)
    except OSError as problem:  # a full disk, a name that is too long
        Misuse(f"{problem.filename or 'the output'}: {problem.strerror or problem}").show()
        sys.exit(MISUSE)
    except Exception as problem:
        if os.environ.get("LOSSDSL_DEBUG") == "1":
            raise
        complain(Source("lossdsl", ""), [internal(problem)])
        sys.exit(WRONG_FILE)
    sys.exit(OK if given else MISUSE)
