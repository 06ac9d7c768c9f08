"""Prediction: a trained model and CTs in, label maps on the CTs' own grids out."""
