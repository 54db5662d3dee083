"""The part of an emitted module that builds its C++ text, keeps the result on disk and loads it.

The text is a constant: `check_source` passes it as it stands, since it is never made of a user's text.
"""

from __future__ import annotations

import re

IMPORTS = (
    "atexit",
    "contextlib",
    "ctypes",
    "hashlib",
    "math",
    "mmap",
    "os",
    "platform",
    "shlex",
    "shutil",
    "subprocess",
    "tempfile",
    "warnings",
    "weakref",
)

FLAGS = "-std=c++17 -O2 -funswitch-loops -march=native -fno-thread-jumps -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=off -fPIC -shared"

LOADER = '''\
_NATIVE_FLAGS = "FLAGS"


def _native(names, reals, others, kinds):
    """The library of the kernels `names` for these tensors, or None where torch operations run: tensors elsewhere than
    on a CPU, strided, of mixed or half precision, or a mode that looks at every operation; no compiler;
    LOSSDSL_NATIVE=0. reals: the inputs to compute with; kinds: the integer ones, which may have any type of element."""
    dtype = None
    for t in (*reals, *others, *kinds.values()):
        if isinstance(t, torch.Tensor):
            if not t.is_cpu or t.layout is not torch.strided or t.is_neg() or t._is_zerotensor():
                return None
    for t in reals:
        if t is not None:
            if not t.is_contiguous() or (dtype is not None and t.dtype != dtype):
                return None
            dtype = t.dtype
    key = [names, dtype]
    for t in kinds.values():
        if t is not None and not t.is_contiguous():
            return None
        key.append(None if t is None else t.dtype)
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return None
    key = tuple(key)
    if key not in _NATIVE_LOADED:
        _NATIVE_LOADED[key] = _native_library(names, dtype, {k: t.dtype for k, t in kinds.items() if t is not None})
    return _NATIVE_LOADED[key]


def _native_library(names, dtype, kinds):
    """The library for these types, built and loaded; None, with one warning, if it cannot be."""
    real = {torch.float32: "float", torch.float64: "double"}.get(dtype)
    elements = {
        **{torch.int64: "int64_t", torch.int32: "int32_t", torch.int16: "int16_t", torch.int8: "int8_t"},
        **{torch.uint8: "uint8_t", torch.bool: "uint8_t", torch.float32: "float", torch.float64: "double"},
    }
    if real is None or not set(kinds.values()) <= set(elements) or os.environ.get("LOSSDSL_NATIVE") == "0":
        return None
    defined = [f"-DREAL={real}", *(f"-DELEMENT_{name}={elements[t]}" for name, t in sorted(kinds.items()))]
    source = "\\n\\n".join([_NATIVE_HELPERS, *(_NATIVE_KERNELS[name][1] for name in names)])
    try:
        return _native_bind(_native_build(source, defined), names)
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as problem:
        if not _NATIVE_TOLD:
            _NATIVE_TOLD.append(problem)
            text = f"compiled kernels are not used, torch operations run instead: {problem}"
            warnings.warn(text, stacklevel=2)
    return None


def _native_build(source, defined):
    """The path of the shared library, from the cache or built now."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    compiler = wanted if wanted else [c for c in ("g++", "clang++", "c++") if shutil.which(c)][:1]
    if not compiler or not shutil.which(compiler[0]):
        raise OSError("no C++ compiler was found (set CXX to one)" if not wanted else f"no compiler {wanted[0]}")
    flags = [*_NATIVE_FLAGS.split(), *defined, *shlex.split(os.environ.get("LOSSDSL_CXXFLAGS", ""))]
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60)
    parts = [source, *compiler, *flags, version.stdout, platform.machine(), _native_processor()]
    digest = hashlib.sha256("\\0".join(parts).encode()).hexdigest()
    failures = []
    for folder in _native_folders():
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            path = os.path.join(folder, f"{digest[:32]}.so")
            if _native_sound(path):
                return path
            return _native_compile(compiler, flags, source, folder, path)
        except (OSError, ValueError) as problem:  # read-only, full (the compiler fails), or of somebody else
            failures.append(str(problem))
    raise OSError("; ".join(dict.fromkeys(failures)))


def _native_folders():
    """Where compiled kernels are kept; a folder for this process alone comes last."""
    kept = os.environ.get("LOSSDSL_CACHE")
    if not kept:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        kept = os.path.join(home, "lossdsl")
    yield kept
    alone = tempfile.mkdtemp(prefix="lossdsl_")
    atexit.register(shutil.rmtree, alone, ignore_errors=True)
    yield alone


def _native_processor():
    """The processor's features: what -march=native depends on."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _native_sound(path):
    """Whether a library is there, whole (its digest lies beside it), and not writable by others."""
    try:
        with open(path, "rb") as file, open(f"{path}.sha256", encoding="ascii") as known:
            mode = os.fstat(file.fileno())
            own = not hasattr(os, "getuid") or (mode.st_uid in (0, os.getuid()) and not mode.st_mode & 0o022)
            return own and hashlib.sha256(file.read()).hexdigest() == known.read().strip()
    except (OSError, UnicodeDecodeError):
        return False


def _native_compile(compiler, flags, text, folder, path):
    """Build under a name of its own, then move it in place: other processes see all of it or nothing."""
    work = tempfile.mkdtemp(prefix="build_", dir=folder)
    try:
        source, made = os.path.join(work, "kernels.cpp"), os.path.join(work, "kernels.so")
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        run = subprocess.run([*compiler, *flags, "-o", made, source], capture_output=True, text=True, timeout=600)
        if run.returncode != 0:
            told = run.stderr.strip().splitlines()
            raise ValueError(f"{compiler[0]} failed: {told[0] if told else run.returncode}")
        os.chmod(made, 0o700)
        with open(made, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        with open(f"{made}.sha256", "w", encoding="ascii") as file:
            file.write(digest)
        os.replace(made, path)
        os.replace(f"{made}.sha256", f"{path}.sha256")
        return path
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _native_bind(path, names):
    """The library with the types of its functions."""
    library = ctypes.CDLL(path)
    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}
    for name in names:
        function = getattr(library, name)
        function.argtypes = [kinds[c] for c in _NATIVE_KERNELS[name][0]]
        function.restype = None
    return library


def _native_empty(shape, dtype):
    """A tensor whose entries are not set. A large one lies in pages that are kept for the next one when nothing refers to
    it any more: touching fresh pages costs more than computing what goes there. LOSSDSL_KEEP=0 leaves all memory to torch."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < 1048576 or not hasattr(mmap, "MADV_FREE") or os.environ.get("LOSSDSL_KEEP") == "0":
        return torch.empty(shape, dtype=dtype)
    large = 2097152  # bytes of a large page
    wanted = (size + 2 * large - 1) // large * large
    try:
        pages = _native_kept(wanted)
        if pages is None:
            pages = mmap.mmap(-1, wanted, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # no memory, of which torch says more, or no such advice
        return torch.empty(shape, dtype=dtype)
    view = memoryview(pages)
    weakref.finalize(view, _native_keep, pages).atexit = False
    start = -torch.frombuffer(view, dtype=torch.uint8).data_ptr() % large
    flat = torch.frombuffer(view, dtype=dtype, count=count, offset=start)
    return torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), flat.storage_offset(), shape)


def _native_kept(wanted):
    """The smallest kept pages of as many bytes and not of over twice as many, or None."""
    for kept in (_NATIVE_PAGES, _NATIVE_FREE):
        for pages in sorted(kept, key=len):
            if wanted <= len(pages) <= 2 * wanted:
                with contextlib.suppress(ValueError):  # another thread took them
                    kept.remove(pages)
                    return pages
    return None


def _native_keep(pages):
    """Called when a tensor in the pages is gone. They stay in memory up to 64 MiB, as what glibc's malloc keeps; of those
    before, the system may take the memory back, and 16 are kept."""
    _NATIVE_PAGES.append(pages)
    with contextlib.suppress(OSError, IndexError):  # another thread took the last ones
        while sum(map(len, _NATIVE_PAGES)) > 67108864:
            oldest = _NATIVE_PAGES.pop(0)
            oldest.madvise(mmap.MADV_FREE)
            _NATIVE_FREE.append(oldest)
        del _NATIVE_FREE[:-16]


def _threads():
    """How many threads to use: one in a process that was forked, where those of the parent do not exist."""
    return torch.get_num_threads() if os.getpid() == _NATIVE_PROCESS else 1


_NATIVE_LOADED: dict = {}
_NATIVE_TOLD: list = []
_NATIVE_PAGES: list = []
_NATIVE_FREE: list = []
_NATIVE_PROCESS = os.getpid()
'''.replace('"FLAGS"', f'"{FLAGS}"')


def loader_names() -> set[str]:
    """The functions that the loader defines."""
    return set(re.findall(r"^def (\w+)\(", LOADER, re.M))
