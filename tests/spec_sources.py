"""The specification of bundles as sources of Java and C, which read no JSON when they are built.

usage: python -m tests.spec_sources
"""

from __future__ import annotations

from pathlib import Path

from edgerec.runtime.manifest import LIMITS, SPEC

ROOT = Path(__file__).parents[1]
MADE = "Made by `python -m tests.spec_sources` of edgerec/runtime/bundle-spec.json; a test compares the two."


def java() -> str:
    """The class of the library for Android."""
    words = {
        name: ",\n            ".join(f'"{one}"' for one in SPEC[name])
        for name in ("operators", "typed_as_all", "typed_as_first", "session_options", "dtypes")
    }
    sets = "\n".join(
        f"    static final Set<String> {name.upper()} = new HashSet<>(Arrays.asList(\n            {words[name]}));"
        for name in words
    )
    options = "\n".join(
        f'        READER_OPTIONS.put("{key}", "{value}");' for key, value in SPEC["reader_options"].items()
    )
    limits = "\n".join(f"    static final int {name.upper()} = {value};" for name, value in LIMITS.items())
    return f"""package org.edgerec;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** What readers take. {MADE} */
final class Spec {{
{sets}
    static final Map<String, String> READER_OPTIONS = new HashMap<>();
{limits}

    static {{
{options}
    }}

    private Spec() {{}}
}}
"""


def c() -> str:
    """The header of the native runner."""
    limits = "\n".join(f"#define SPEC_{name.upper()} {value}" for name, value in LIMITS.items())
    wanted = ", ".join(f'"{name}"' for name in SPEC["session_options"])
    told = ", ".join(f'{{"{key}", "{value}"}}' for key, value in SPEC["reader_options"].items())
    return f"""/* What readers take. {MADE} */
#ifndef EDGEREC_SPEC_H
#define EDGEREC_SPEC_H

{limits}

#define SPEC_SESSION_OPTIONS {{{wanted}}}
#define SPEC_READER_OPTIONS {{{told}}}

#endif
"""


FILES = {
    ROOT / "devices" / "android" / "edgerec" / "src" / "main" / "java" / "org" / "edgerec" / "Spec.java": java,
    ROOT / "devices" / "edgerec_devices" / "runner" / "spec.h": c,
}

if __name__ == "__main__":
    for path, made in FILES.items():
        path.write_text(made(), encoding="utf-8")
