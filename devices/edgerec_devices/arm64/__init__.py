"""The emulated Raspberry Pi stand-in, behind the same SSH."""
