"""A Linux machine behind sshd, such as a Raspberry Pi."""
