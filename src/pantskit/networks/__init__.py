"""Networks and the folders they are kept in: what training and prediction share."""
