"""Runs untrusted programs behind a wall; knows no problem set, model or reward."""
