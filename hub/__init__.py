"""Hugging Face Hub: loading, uploads, model cards and error messages."""
