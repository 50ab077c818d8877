"""Build the kernel for WebAssembly: `devices/kernel` by zig's clang, shrunk by binaryen; equal bytes on every machine.

usage: python devices/web/build_wasm.py [FOLDER]      (by default devices/edgerec_devices/web/dist)

It takes `pip install ziglang` in the version below, and `npm ci --ignore-scripts` in this folder. There are two builds:
`edgerec-kernel-relaxed.wasm` multiplies bytes by relaxed dot products, and is only valid where WebAssembly has them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
KERNEL = HERE.parent / "kernel"
PLACE = HERE.parent / "edgerec_devices" / "web" / "dist"
BUILDS = {"edgerec-kernel.wasm": False, "edgerec-kernel-relaxed.wasm": True}
"""Files, and True for the one with relaxed dot products."""
WASM_OPT = HERE / "node_modules" / "binaryen" / "bin" / "wasm-opt"
ZIG = "0.17.1"
"""The version of `ziglang` whose bytes are committed; binaryen's is in package-lock.json."""
EXPORTED = (
    *("er_work_size", "er_recommend", "er_similar", "er_popular", "er_score", "er_encode"),
    *("er_row_of_int", "er_row_of_text", "er_int_of_row", "er_text_of_row", "er_title", "er_attribute"),
    *("er_manifest_file", "er_open", "__heap_base"),
)
"""In the order of the module's list, by which kernel.ts tells them apart: their names are shortened."""
STACK, OWN = 64 << 10, 128 << 10
"""Bytes of the stack, and of stack and constants: `OWN_PAGES` of kernel.ts."""
SMALLER = (
    *("-disable-lsr", "-replexitval=never"),
    *("-enable-pre=0", "-jump-threading-threshold=0", "-bonus-inst-threshold=0"),
    *("-phi-node-folding-threshold=0", "-simplifycfg-hoist-common=0"),
    "-inline-threshold=-20",
)
"""Options of LLVM: no pointers of loops in addition to their index, and no sums that replace a loop; no copies of code
for values that are known on some paths; no selects for branches; like code is left where it is, which gzip shortens;
functions are inlined only where that saves bytes."""
FEATURES = ("simd", "bulk-memory", "nontrapping-float-to-int", "sign-ext", "mutable-globals")


def compiling(target: Path, is_relaxed: bool) -> list[str]:
    """Return the command that compiles and links.

    The platform has sha256, signatures, deflate and UTF-8, and messages are JavaScript's. A tile of 4,096 rows, the
    scores of which stay in the cache, reads longer stretches of each column: fp32 takes half the time of 512 rows.
    """
    flags = ["-target", "wasm32-freestanding", "-std=c99", "-Oz", "-Xclang", "-Oz"]
    flags += [word for option in SMALLER for word in ("-mllvm", option)]
    flags += ["-mrelaxed-simd"] if is_relaxed else []
    flags += [
        "-msimd128",
        "-mbulk-memory",
        "-DNDEBUG",
        "-DER_SHA256=0",
        "-DER_ONE_FILE=0",
        "-DER_MESSAGES=0",
        "-DER_UTF8=0",
        "-DER_TILE=4096",
    ]
    linking = ["--no-entry", "--import-memory", "--strip-all", "--gc-sections", f"-z,stack-size={STACK}"]
    linking += [f"--initial-memory={OWN}", *(f"--export={name}" for name in EXPORTED)]
    sources = [f"src/{path.name}" for path in sorted((KERNEL / "src").glob("*.c"))]
    words = [*flags, *(f"-Wl,{word}" for word in linking), *sources, "-o", str(target)]
    return [sys.executable, "-m", "ziglang", "cc", *words]


def shrinking(source: Path, target: Path, is_relaxed: bool) -> list[str]:
    """Return the command that shrinks a module and names its exports by letters.

    No address below 1,024 is used, and nothing traps: the kernel checks what it reads.
    """
    features = [f"--enable-{name}" for name in (*FEATURES, *(["relaxed-simd"] if is_relaxed else []))]
    passes = ["-tnh", "--low-memory-unused", "--flatten", "--rereloop", "-Oz", "-Oz", "--converge"]
    passes += ["--minify-imports-and-exports"]
    return ["node", str(WASM_OPT), *passes, *features, str(source), "-o", str(target)]


def build(target: Path, is_relaxed: bool) -> int:
    """Write a module to `target`, and return its bytes. Raises SystemExit with a line for people."""
    try:
        found = version("ziglang")
    except PackageNotFoundError:
        found = "not installed"
    if found != ZIG:
        raise SystemExit(f"ziglang is {found}, and each version writes other bytes: pip install ziglang=={ZIG}")
    if not WASM_OPT.exists():
        raise SystemExit(f"binaryen is not installed: npm ci --ignore-scripts in {HERE}")
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "whole.wasm"), Path(folder, "small.wasm")
        for command in (compiling(whole, is_relaxed), shrinking(whole, small, is_relaxed)):
            done = subprocess.run(command, cwd=KERNEL, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
        content = whole.read_bytes()  # without debug names: a name with its length is one of the exports
        places = [content.index(bytes([len(name), *name.encode()])) for name in EXPORTED]
        if places != sorted(places):
            raise SystemExit("the module lists its exports in another order; give EXPORTED and kernel.ts that order")
        target.write_bytes(small.read_bytes())
    return target.stat().st_size


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    for name, is_relaxed in BUILDS.items():
        print(f"{name}: {build(place / name, is_relaxed):,} bytes")
