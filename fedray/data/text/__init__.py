"""Text as what clients hold: files of rows, templates, tokenizers, and what is kept of them between runs."""
