"""Damaged files and odd command lines: refused by one line each, whatever they are."""
