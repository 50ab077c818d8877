#!/bin/sh
# usage: build.sh BUNDLE.edgerec OUT.elf [-DHISTORY=3,17,42 ...]; needs ziglang (pip install ziglang)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bundle=$1 out=$2
shift 2
cd "$here"
"${PYTHON:-python3}" -m ziglang cc -target thumb-freestanding-eabihf -mcpu=cortex_m4+vfp4d16sp -ffreestanding -Os \
    -std=c11 -fno-unwind-tables -Wl,--gc-sections -ffunction-sections -DER_SIGNATURES=0 -DER_SHA256=0 \
    "-DBUNDLE=\"$bundle\"" "$@" -T mps2.ld -nostartfiles -static -Wno-unused-command-line-argument -Wl,-e,reset main.c bundle.S ../src/*.c -o "$out"
