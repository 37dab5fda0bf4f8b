"""A scorer and an optimizer for prunetune; nothing is imported before one of them is used."""
