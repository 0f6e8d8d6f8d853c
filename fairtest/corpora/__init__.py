"""Text, JSONL, CSV, Parquet and Hugging Face datasets, read into privacy units."""
