"""The reference's three ReFL trainers, `ReFL`, `ReFL_SDXL` and `ReFL_SDXL_LoRA`, on the trainer of `core/refl`."""
