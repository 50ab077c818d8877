"""An emulated Raspberry Pi, reached through SSH."""
