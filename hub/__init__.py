"""From and to the Hugging Face Hub: loading, uploads, model cards, errors in plain words."""
