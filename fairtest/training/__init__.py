"""Fine-tuning with per-unit clipping; the one room, with scoring, that imports torch."""
