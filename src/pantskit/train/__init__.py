"""Training: a dataset in, an nnU-Net model folder out."""
